//! Arteries, veins and bronchi of the lungs: tapering trees from the hilum that end near the pleura.
//!
//! A tree grows towards points strewn through a lung by the balanced minimum-spanning rule of Cuntz et
//! al. (PLoS Comput Biol 2010): each point, nearest to the hilum first, joins where wire length plus a
//! share of the path back to the root is least. Radii follow Murray's law from the twigs up
//! (r^3 = sum of the children's r^3).

use super::chest::Chest;
use super::draw::Draw;
use super::grid::{Canvas, P3, Rod, along, cover, dot, length, sub, unit};

/// A branching vessel; node 0 is at the hilum and a parent always stands before its children.
pub(super) struct Tree {
    pub(super) points: Vec<P3>,
    pub(super) radii: Vec<f32>,
    parents: Vec<usize>,
}

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
            let tree = grow(draw, canvas, &voxels, root, count, &habit);
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

impl Tree {
    fn rod(&self, node: usize) -> Rod {
        let parent = self.parents[node];
        // A twig leaving a trunk is no wider at its start than three of its own radii allow.
        let ra = self.radii[parent].min(self.radii[node] * 1.35);
        Rod { a: self.points[parent], b: self.points[node], ra, rb: self.radii[node] }
    }
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

fn grow(draw: &mut Draw, canvas: &Canvas, voxels: &[u32], root: P3, count: usize, habit: &Habit) -> Tree {
    let mut tree = Tree { points: vec![root], radii: vec![0.0], parents: vec![0] };
    if voxels.is_empty() {
        return tree;
    }
    let mut targets: Vec<P3> = (0..count)
        .map(|_| {
            let p = canvas.grid.centre_of(voxels[draw.below(voxels.len())] as usize);
            std::array::from_fn(|a| p[a] + 0.5 * canvas.grid.spacing[a] * draw.signed())
        })
        .collect();
    targets.sort_by(|a, b| length(sub(*a, root)).total_cmp(&length(sub(*b, root))));
    let mut paths = vec![0.0f32];
    for target in targets {
        let mut best = (f32::INFINITY, 0);
        for (node, p) in tree.points.iter().enumerate() {
            let cost = length(sub(target, *p)) + habit.balance * paths[node];
            if cost < best.0 {
                best = (cost, node);
            }
        }
        let from = tree.points[best.1];
        let way = sub(target, from);
        let steps = (length(way) / 6.0).ceil().max(1.0) as usize;
        let mut parent = best.1;
        for step in 1..=steps {
            let mut p = along(from, way, step as f32 / steps as f32);
            if step < steps {
                for x in &mut p {
                    *x += 0.8 * draw.signed();
                }
            }
            paths.push(paths[parent] + length(sub(p, tree.points[parent])));
            tree.points.push(p);
            tree.parents.push(parent);
            parent = tree.points.len() - 1;
        }
    }
    relax(&mut tree);
    murray(&mut tree, habit.twig);
    tree
}

/// Pulls every inner node towards the middle of its neighbours, so that branches bend and not break.
fn relax(tree: &mut Tree) {
    let n = tree.points.len();
    for _ in 0..3 {
        let mut sums = vec![([0.0f32; 3], 0.0f32); n];
        for node in 1..n {
            let parent = tree.parents[node];
            sums[parent].0 = along(sums[parent].0, tree.points[node], 1.0);
            sums[parent].1 += 1.0;
        }
        let old = tree.points.clone();
        for node in 1..n {
            let (sum, count) = sums[node];
            if count > 0.0 {
                let middle = along([0.0; 3], sum, 0.5 / count);
                let middle = along(middle, old[tree.parents[node]], 0.5);
                tree.points[node] = along(tree.points[node], sub(middle, tree.points[node]), 0.5);
            }
        }
    }
}

fn murray(tree: &mut Tree, twig: f32) {
    let n = tree.points.len();
    tree.radii = vec![0.0; n];
    let mut cubes = vec![0.0f32; n];
    for node in (0..n).rev() {
        if cubes[node] == 0.0 {
            cubes[node] = twig * twig * twig;
        }
        tree.radii[node] = libm::cbrtf(cubes[node]).min(5.5);
        if node > 0 {
            let cube = cubes[node];
            cubes[tree.parents[node]] += cube;
        }
    }
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
