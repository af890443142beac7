//! Nodules: compact solid blobs of 8 to 30 mm, free in the lung, on a vessel, or against the pleura.

use super::super::draw::Draw;
use super::super::grid::{Canvas, P3, Rod, along, cover, length, sub};
use super::super::outline::Outline;
use super::super::trees::Tree;
use super::findings::lung_point;

/// Smallest and largest diameter in mm.
pub(super) const DIAMETERS: [f32; 2] = [8.0, 30.0];

/// A placed nodule, in the phantom's mm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) centre: P3,
    pub(super) diameter: f32,
}

/// Puts one to three nodules into the lungs; marks their voxels in `mask`.
pub(super) fn paint(
    draw: &mut Draw,
    canvas: &mut Canvas,
    trees: &[Tree],
    blood: f32,
    mask: &mut [u8],
) -> Vec<Placed> {
    let free = canvas.lung.clone();
    let mut placed: Vec<Placed> = Vec::new();
    let wanted = 1 + draw.below(3);
    // A positive case has a nodule: where the first finds no room, another size is tried.
    for attempt in 0..64 {
        if attempt >= wanted && !placed.is_empty() {
            break;
        }
        let diameter = draw.range(DIAMETERS[0], DIAMETERS[1]);
        if let Some(centre) = place(draw, canvas, trees, diameter, &placed) {
            placed.push(Placed { centre, diameter });
            draw_one(draw, canvas, &free, centre, diameter, blood, mask);
        }
    }
    placed
}

/// Share of the points at `radius` around `centre` that are lung.
fn share_in_lung(canvas: &Canvas, centre: P3, radius: f32) -> f32 {
    let mut inside = 0;
    let golden = 2.399_963_2_f32;
    for i in 0..48 {
        let z = 1.0 - (2 * i + 1) as f32 / 48.0;
        let ring = (1.0 - z * z).sqrt();
        let turn = golden * i as f32;
        let p = along(centre, [ring * libm::cosf(turn), ring * libm::sinf(turn), z], radius);
        inside += usize::from(canvas.grid.nearest(p).is_some_and(|v| canvas.lung[v] > 0.5));
    }
    inside as f32 / 48.0
}

/// The place of a nodule: a third lie on a vessel, a quarter against the pleura, the rest free.
///
/// If 200 tries find no room for a kind of place, another kind is drawn.
fn place(draw: &mut Draw, canvas: &Canvas, trees: &[Tree], diameter: f32, placed: &[Placed]) -> Option<P3> {
    let r = 0.5 * diameter;
    let apart = |p: P3| placed.iter().all(|o| length(sub(p, o.centre)) > r + 0.5 * o.diameter + 6.0);
    let wish = draw.unit();
    for attempt in 0..600 {
        let wish = if attempt < 200 { wish } else { draw.unit() };
        let candidate = if wish < 0.35 { on_vessel(draw, trees, r) } else { lung_point(draw, canvas) };
        let Some(p) = candidate else { continue };
        let within = share_in_lung(canvas, p, r * 0.85);
        let rim = share_in_lung(canvas, p, r * 1.12 + 2.0);
        let fits = if (0.35..0.6).contains(&wish) {
            within > 0.9 && (0.6..0.93).contains(&rim)
        } else {
            within == 1.0 && rim > 0.97
        };
        if fits && apart(p) {
            return Some(p);
        }
    }
    None
}

fn on_vessel(draw: &mut Draw, trees: &[Tree], r: f32) -> Option<P3> {
    let tree = &trees[draw.below(trees.len())];
    let node = draw.below(tree.points.len());
    let off = draw.direction();
    let vessel = tree.radii[node];
    (0.8..3.5).contains(&vessel).then(|| along(tree.points[node], off, 0.75 * r + vessel))
}

fn draw_one(
    draw: &mut Draw,
    canvas: &mut Canvas,
    lung: &[f32],
    centre: P3,
    diameter: f32,
    blood: f32,
    mask: &mut [u8],
) {
    let outline = Outline::draw(draw);
    let r = 0.5 * diameter;
    // As bright as the vessels around it: some of the contrast, if there is any, and its own scatter.
    let hu = (draw.range(0.3, 1.0) * blood + draw.range(-50.0, 25.0)).clamp(-50.0, 80.0);
    let reach = 1.4 * r + 3.0;
    let edge = canvas.edge;
    let grid = canvas.grid.clone();
    grid.in_box(centre.map(|c| c - reach), centre.map(|c| c + reach), |voxel, p| {
        let v = sub(p, centre);
        let n = length(v);
        let d = if n < 0.3 { -r } else { n - r * outline.radius([v[0] / n, v[1] / n, v[2] / n]) };
        let share = cover(d, edge) * lung[voxel];
        if share > 0.0 {
            let there = canvas.hu[voxel];
            canvas.hu[voxel] = there.max(there + (hu - there) * share);
        }
        if d <= 0.0 && lung[voxel] > 0.5 {
            mask[voxel] = 1;
        }
    });
    if draw.chance(0.3) {
        for _ in 0..6 + draw.below(10) {
            let way = draw.direction();
            let rod = Rod {
                a: along(centre, way, 0.8 * r),
                b: along(centre, way, r * 1.0 + draw.range(2.0, 7.0)),
                ra: 0.8,
                rb: 0.3,
            };
            canvas.near_rod(rod, edge, |c, v, d, _| {
                let share = 0.5 * cover(d, edge) * lung[v];
                let there = c.hu[v];
                c.hu[v] = there.max(there + (hu - there) * share);
            });
        }
    }
}
