//! Injuries of a solid organ: tears, and haematomas inside it or under its capsule. They only darken what is
//! there, so that they can be put into a painted organ and into a real one.

use super::super::draw::Draw;
use super::super::grid::{Grid, P3, along, cover, dot, length, sub, unit};
use super::super::noise::Lattice;
use super::super::outline::Outline;
use super::depth::depths;
use std::f32::consts::TAU;

/// How much darker an injury is than the organ, HU.
pub(super) const DROP: [f32; 2] = [15.0, 40.0];
/// An injury smaller than this is drawn anew, mm3.
const LEAST: f32 = 1500.0;

/// What an injury is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tear,
    Haematoma,
    Subcapsular,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tear => "laceration",
            Self::Haematoma => "haematoma",
            Self::Subcapsular => "subcapsular haematoma",
        }
    }
}

/// An injury in the phantom's mm: its middle and its length or diameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) kind: Kind,
    pub(super) centre: P3,
    pub(super) size: f32,
}

/// The organ that is hurt.
pub(super) struct Organ<'a> {
    grid: &'a Grid,
    /// How much of each voxel is parenchyma.
    share: &'a [f32],
    depth: Vec<f32>,
    surface: Vec<u32>,
    inside: Vec<u32>,
}

impl<'a> Organ<'a> {
    /// `outline` is the organ with what is in it; `share` the parenchyma alone, which is where injuries show.
    pub(super) fn new(grid: &'a Grid, outline: &[f32], share: &'a [f32]) -> Self {
        let depth = depths(grid, outline);
        let skin = 1.6 * grid.spacing.iter().copied().fold(0.0, f32::max);
        let voxels = |keep: &dyn Fn(f32) -> bool| {
            (0..depth.len() as u32).filter(|&v| keep(depth[v as usize])).collect::<Vec<_>>()
        };
        let (surface, inside) = (voxels(&|d| d > 0.0 && d < skin), voxels(&|d| d > 0.0));
        Self { grid, share, depth, surface, inside }
    }

    fn any(&self, draw: &mut Draw, of: &[u32]) -> P3 {
        self.grid.centre_of(of[draw.below(of.len())] as usize)
    }

    fn deep_point(&self, draw: &mut Draw, depth: f32) -> P3 {
        // The organ may be thinner than that everywhere: then anywhere.
        let found = (0..2000).map(|_| self.inside[draw.below(self.inside.len())]);
        let found = found.into_iter().find(|v| self.depth[*v as usize] >= depth);
        self.grid.centre_of(found.unwrap_or(self.inside[0]) as usize)
    }
}

/// One leaf of a tear: a wavy sheet that narrows towards its tip.
struct Leaf {
    root: P3,
    /// Along the tear, across it, along its edge.
    axes: [P3; 3],
    length: f32,
    half: f32,
    wide: f32,
    waves: [[f32; 3]; 3],
}

fn cross(a: P3, b: P3) -> P3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

impl Leaf {
    fn draw(d: &mut Draw, root: P3, course: P3, edge: P3, length: f32, half: f32) -> Self {
        let across = unit(cross(edge, course));
        let axes = [course, across, unit(cross(course, across))];
        let mut wave = |size: [f32; 2], mm: [f32; 2]| {
            [d.range(size[0], size[1]), TAU / d.range(mm[0], mm[1]), d.range(0.0, TAU)]
        };
        let waves =
            [wave([2.5, 6.0], [26.0, 46.0]), wave([1.0, 2.2], [9.0, 14.0]), wave([1.0, 3.0], [14.0, 30.0])];
        Self { root, axes, length, half, wide: d.range(11.0, 20.0), waves }
    }

    fn sway(&self, wave: usize, t: f32) -> f32 {
        let [size, per_mm, phase] = self.waves[wave];
        size * libm::sinf(t * per_mm + phase)
    }

    /// Across the sheet at `t` mm along it.
    fn middle(&self, t: f32) -> f32 {
        // At its root the tear is where it starts.
        (self.sway(0, t) + self.sway(1, t) - self.sway(0, 0.0) - self.sway(1, 0.0))
            * (t / 8.0).clamp(0.0, 1.0)
    }

    fn distance(&self, p: P3, ragged: f32) -> f32 {
        let v = sub(p, self.root);
        let (t, w) = (dot(v, self.axes[0]), dot(v, self.axes[2]));
        let share = (t / self.length).clamp(0.0, 1.0);
        let half = self.half * (1.0 - 0.7 * share) + 1.1 * ragged;
        let side = (dot(v, self.axes[1]) - self.middle(t) - self.sway(2, w)).abs() - half;
        side.max(w.abs() - self.wide * (1.0 - 0.4 * share) - 2.0 * ragged).max(t - self.length).max(-t - 4.0)
    }
}

/// An injury's shape: signed distances in mm.
enum Shape {
    Leaves(Vec<Leaf>),
    Blob(P3, f32, Outline),
    Lens { at: P3, radius: f32, thick: f32 },
}

impl Shape {
    fn distance(&self, p: P3, depth: f32, ragged: f32) -> f32 {
        match self {
            Self::Leaves(leaves) => leaves.iter().map(|l| l.distance(p, ragged)).fold(f32::MAX, f32::min),
            Self::Blob(centre, radius, outline) => {
                let v = sub(p, *centre);
                let n = length(v);
                if n < 0.3 { -radius } else { n - radius * outline.radius(v.map(|x| x / n)) + 1.8 * ragged }
            }
            Self::Lens { at, radius, thick } => {
                let r = length(sub(p, *at)) / radius;
                depth - thick * (1.0 - r * r) + 1.2 * ragged
            }
        }
    }
}

/// A shape, where to look for it, and what it is called.
struct Plan {
    shape: Shape,
    low: P3,
    high: P3,
    placed: Placed,
}

fn around(centre: P3, reach: f32) -> (P3, P3) {
    (centre.map(|c| c - reach), centre.map(|c| c + reach))
}

fn plan(draw: &mut Draw, organ: &Organ) -> Plan {
    let wish = draw.unit();
    if wish < 0.5 {
        tear(draw, organ)
    } else if wish < 0.75 {
        let radius = draw.range(8.0, 14.0);
        let centre = organ.deep_point(draw, 0.9 * radius);
        let (low, high) = around(centre, 1.5 * radius + 4.0);
        let placed = Placed { kind: Kind::Haematoma, centre, size: 2.0 * radius };
        Plan { shape: Shape::Blob(centre, radius, Outline::draw(draw)), low, high, placed }
    } else {
        let at = organ.any(draw, &organ.surface);
        let (radius, thick) = (draw.range(26.0, 44.0), draw.range(9.0, 15.0));
        let (low, high) = around(at, radius + 3.0);
        let placed = Placed { kind: Kind::Subcapsular, centre: at, size: 1.4 * radius };
        Plan { shape: Shape::Lens { at, radius, thick }, low, high, placed }
    }
}

fn tear(draw: &mut Draw, organ: &Organ) -> Plan {
    let root = organ.any(draw, &organ.surface);
    let inner = organ.deep_point(draw, 14.0);
    let course = unit(sub(inner, root));
    let long = (length(sub(inner, root)) + 10.0).min(draw.range(34.0, 70.0)).max(25.0);
    let half = draw.range(3.2, 5.2);
    // Mostly upright, so that a slice shows a line.
    let edge = unit(along(draw.direction(), [0.0, 0.0, 1.0], 1.2));
    let trunk = Leaf::draw(draw, root, course, edge, long, half);
    let mut leaves = Vec::new();
    for _ in 0..1 + draw.below(3) {
        let t = draw.range(0.25, 0.75) * long;
        let start = along(along(root, course, t), trunk.axes[1], trunk.middle(t));
        let turn = draw.range(0.5, 1.15) * if draw.chance(0.5) { 1.0 } else { -1.0 };
        let (s, c) = (libm::sinf(turn), libm::cosf(turn));
        let way = along(course.map(|x| x * c), trunk.axes[1], s);
        let reach = draw.range(14.0, 30.0).min(0.8 * long);
        leaves.push(Leaf::draw(draw, start, way, trunk.axes[2], reach, 0.75 * half));
    }
    leaves.push(trunk);
    let centre = along(root, course, 0.5 * long);
    let (low, high) = around(centre, 0.5 * long + 34.0);
    Plan { shape: Shape::Leaves(leaves), low, high, placed: Placed { kind: Kind::Tear, centre, size: long } }
}

/// Puts one injury into the organ, in a third of the cases two; marks their voxels in `mask`.
pub(super) fn paint(draw: &mut Draw, organ: &Organ, hu: &mut [f32], mask: &mut [u8]) -> Vec<Placed> {
    let grid = organ.grid;
    let voxel_mm3 = grid.spacing[0] * grid.spacing[1] * grid.spacing[2];
    let wanted = 1 + usize::from(draw.chance(0.33));
    let mut placed = Vec::new();
    for attempt in 0..40 {
        if placed.len() == wanted || attempt >= 8 && !placed.is_empty() {
            break;
        }
        let plan = plan(draw, organ);
        let rough = Lattice::new(draw, grid, 5.0);
        let clouds = Lattice::new(draw, grid, 8.0);
        let drop = draw.range(DROP[0], DROP[1]);
        let blur = draw.range(1.8, 3.2);
        let mut hits = Vec::new();
        grid.in_box(plan.low, plan.high, |voxel, p| {
            if organ.share[voxel] > 0.0 {
                let d = plan.shape.distance(p, organ.depth[voxel], rough.at(p));
                let share = cover(d, blur) * organ.share[voxel];
                if share > 0.0 {
                    hits.push((voxel, share, clouds.at(p), d <= 0.0 && organ.share[voxel] > 0.5));
                }
            }
        });
        let volume = voxel_mm3 * hits.iter().filter(|h| h.3).count() as f32;
        // The last attempts take what they get: an organ can be small.
        if volume < LEAST && attempt < 30 || volume == 0.0 {
            continue;
        }
        for (voxel, share, cloud, inside) in hits {
            hu[voxel] -= drop * (1.0 + 0.2 * cloud) * share;
            mask[voxel] |= u8::from(inside);
        }
        placed.push(plan.placed);
    }
    placed
}
