//! Arteries, veins and bronchi of the lungs: trees from the hilum that end near the pleura.

use super::super::draw::Draw;
use super::super::grid::{Canvas, P3, Rod, along, cover, dot, sub, unit};
use super::super::trees::{Growth, Tree, grow};
use super::chest::Chest;

/// How the vessels of one case differ from another's.
struct Habit {
    /// Twigs per litre of lung and tree.
    density: f32,
    twig: f32,
    balance: f32,
    /// Share of a bronchus's radius to its artery's, and its wall.
    airway: f32,
    wall: f32,
}

/// Grows and paints the vessels of both lungs; the trees come back for nodules that sit on them.
pub(super) fn paint(chest: &Chest, draw: &mut Draw, canvas: &mut Canvas) -> Vec<Tree> {
    let habit = Habit {
        density: draw.range(160.0, 480.0),
        twig: draw.range(0.5, 0.8),
        balance: draw.range(0.3, 0.55),
        airway: draw.range(0.62, 0.85),
        wall: draw.range(0.7, 1.3),
    };
    let mut trees = Vec::new();
    for (side, hilum) in chest.hila.into_iter().enumerate() {
        let sign = if side == 0 { 1.0 } else { -1.0 };
        let (voxels, litres) = lung_voxels(canvas, sign);
        let low = [hilum[0], hilum[1] + 8.0, hilum[2] - 22.0];
        for (root, hu) in [(hilum, chest.blood - 4.0), (low, chest.blood + 2.0)] {
            let count = (habit.density * litres * draw.range(0.85, 1.15)) as usize;
            let growth = Growth { count, twig: habit.twig, balance: habit.balance };
            let tree = grow(draw, canvas, &voxels, root, &growth);
            for node in 1..tree.points.len() {
                vessel(canvas, tree.rod(node), hu);
            }
            trees.push(tree);
        }
    }
    for (side, tree) in trees.iter().step_by(2).enumerate() {
        let lean = unit([if side == 0 { -0.5 } else { 0.5 }, -0.8, draw.range(-0.5, 0.5)]);
        bronchi(canvas, tree, lean, &habit);
    }
    trees
}

/// Voxels well inside the lung of one side, and that lung's volume in litres.
fn lung_voxels(canvas: &Canvas, sign: f32) -> (Vec<u32>, f32) {
    let grid = &canvas.grid;
    let mut voxels = Vec::new();
    for (row, start) in (0..grid.len()).step_by(grid.shape[0]).enumerate() {
        // Every second row is enough to strew points in.
        if row % 2 == 1 {
            continue;
        }
        for i in 0..grid.shape[0] {
            if grid.at(0, i) * sign > 0.0 && canvas.lung[start + i] > 0.95 {
                voxels.push((start + i) as u32);
            }
        }
    }
    let mm3 = grid.spacing[0] * grid.spacing[1] * grid.spacing[2];
    let litres = voxels.len() as f32 * 2.0 * mm3 / 1.0e6;
    (voxels, litres)
}

/// One stretch of vessel: brightens what it covers, and a vessel thinner than a voxel fills a share of it.
fn vessel(canvas: &mut Canvas, rod: Rod, hu: f32) {
    let edge = canvas.edge;
    canvas.near_rod(rod, edge, |c, v, d, r| {
        let fill = (2.4 * r * r / (edge * edge)).min(1.0);
        let share = cover(d, edge) * fill * c.lung[v].min(1.0);
        if share > 0.0 {
            let there = c.hu[v];
            c.hu[v] = there.max(there + (hu - there) * share).max((-850.0 + (hu + 850.0) * share).min(hu));
        }
    });
}

/// Air-filled tubes with a wall, beside the arteries that are wide enough to show one.
fn bronchi(canvas: &mut Canvas, artery: &Tree, lean: P3, habit: &Habit) {
    let beside = |node: usize| {
        let parent = artery.parents[node];
        let course = unit(sub(artery.points[node], artery.points[parent]));
        let off = unit(along(lean, course, -dot(lean, course)));
        let r = artery.radii[node];
        (along(artery.points[node], off, r + r * habit.airway + habit.wall), r * habit.airway)
    };
    let edge = canvas.edge;
    for air in [false, true] {
        for node in 1..artery.points.len() {
            if artery.radii[node] < 1.35 {
                continue;
            }
            let (b, rb) = beside(node);
            let parent = artery.parents[node];
            let (a, ra) = if parent == 0 { (artery.points[0], rb) } else { beside(parent) };
            let ra = ra.min(1.3 * rb);
            let grown = if air { 0.0 } else { habit.wall };
            let rod = Rod { a, b, ra: ra + grown, rb: rb + grown };
            canvas.near_rod(rod, edge, |c, v, d, _| {
                let share = cover(d, edge) * c.lung[v].min(1.0);
                let there = c.hu[v];
                if air {
                    c.hu[v] = there + (-960.0 - there) * share;
                } else {
                    c.hu[v] = there.max(there + (-150.0 - there) * share);
                }
            });
        }
    }
}
