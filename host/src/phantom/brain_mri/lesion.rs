//! Lesions and their harmless doubles: blobs of 14 to 28 mm in the cerebrum, told apart by their signal alone.

use super::super::draw::Draw;
use super::super::grid::{P3, along, cover, length, sub};
use super::super::noise::Lattice;
use super::super::outline::Outline;
use super::depths::tissue_point;
use super::head::Head;
use super::tissue::{Picture, Signal};

/// Smallest and largest diameter in mm.
pub(super) const DIAMETERS: [f32; 2] = [14.0, 28.0];

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stroke,
    Tumour,
    Cyst,
    /// Harmless: dark in all three.
    Calcified,
    /// Harmless: bright on T2 alone.
    Stain,
}

impl Kind {
    /// What a class of the task is, if it is anything.
    pub(super) fn of_class(class: usize) -> Option<Self> {
        [None, Some(Self::Stroke), Some(Self::Tumour), Some(Self::Cyst)][class]
    }
}

/// How far a blob's signals are from the white matter's; drawn alike for every kind.
struct Strength {
    /// Share of the way from white matter to fluid: on T1, and on T2.
    dark: f32,
    bright: f32,
    /// FLAIR: brighter by this factor, or this share of the way to fluid.
    glow: f32,
    wet: f32,
}

impl Strength {
    fn draw(d: &mut Draw) -> Self {
        Self {
            dark: d.range(0.35, 0.75),
            bright: d.range(0.4, 0.85),
            glow: d.range(1.4, 1.8),
            wet: d.range(0.45, 0.85),
        }
    }

    /// The blob's signal, `None` where it does not show.
    fn signal(&self, kind: Kind, head: &Head) -> [Option<f32>; 3] {
        let (white, fluid) = (head.tissues.white, head.tissues.fluid);
        let towards = |s: usize, share: f32| white[s] + (fluid[s] - white[s]) * share;
        let dark = Some(towards(0, self.dark));
        let bright = Some(towards(1, self.bright));
        let glow = Some(white[2] * self.glow);
        let wet = Some(towards(2, self.wet));
        match kind {
            Kind::Stroke => [dark, bright, glow],
            Kind::Tumour => [None, bright, glow],
            Kind::Cyst => [dark, bright, wet],
            Kind::Calcified => [dark, Some(white[1] * (1.0 - 0.8 * self.bright)), wet],
            Kind::Stain => [None, bright, None],
        }
    }
}

/// A blob in the phantom's mm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) centre: P3,
    pub(super) radius: f32,
}

/// A third of all cases gets a calcified focus, a third a stain.
pub(super) fn harmless(head: &Head, draw: &mut Draw, picture: &mut Picture) -> Vec<Placed> {
    let mut placed = Vec::new();
    let wish = draw.below(3);
    if let Some(kind) = [None, Some(Kind::Calcified), Some(Kind::Stain)][wish] {
        let mut unmarked = vec![0u8; picture.grid.len()];
        paint(kind, head, draw, picture, &mut unmarked, &mut placed);
    }
    placed
}

/// Puts one blob, in a third of the cases two, where there is room beside those that are `placed`; marks their
/// voxels in `mask`.
pub(super) fn paint(
    kind: Kind,
    head: &Head,
    draw: &mut Draw,
    picture: &mut Picture,
    mask: &mut [u8],
    placed: &mut Vec<Placed>,
) {
    let first = placed.len();
    let wanted = 1 + usize::from(draw.chance(0.33));
    // A case of a lesion's class has one: where the first finds no room, another size is tried.
    for attempt in 0..64 {
        if attempt >= wanted && placed.len() > first {
            break;
        }
        let radius = 0.5 * draw.range(DIAMETERS[0], DIAMETERS[1]);
        if let Some(centre) = place(draw, picture, head, radius, placed) {
            placed.push(Placed { centre, radius });
            draw_one(kind, head, draw, picture, mask, Placed { centre, radius });
        }
    }
}

/// A point whose surroundings are brain; sulci through it are no hindrance.
fn place(draw: &mut Draw, picture: &Picture, head: &Head, radius: f32, placed: &[Placed]) -> Option<P3> {
    for _ in 0..300 {
        let p = tissue_point(draw, picture, head.centre - 30.0)?;
        if placed.iter().any(|o| length(sub(p, o.centre)) < radius + o.radius + 8.0) {
            continue;
        }
        let mut brain = 0;
        for i in 0..40 {
            let z = 1.0 - (2 * i + 1) as f32 / 40.0;
            let (ring, turn) = ((1.0 - z * z).sqrt(), 2.399_963_2 * i as f32);
            let at = along(p, [ring * libm::cosf(turn), ring * libm::sinf(turn), z], 0.85 * radius);
            brain += usize::from(picture.grid.nearest(at).is_some_and(|v| picture.tissue[v] > 0.4));
        }
        if brain >= 32 {
            return Some(p);
        }
    }
    None
}

fn draw_one(
    kind: Kind,
    head: &Head,
    draw: &mut Draw,
    picture: &mut Picture,
    mask: &mut [u8],
    Placed { centre, radius }: Placed,
) {
    let outline = Outline::draw(draw);
    let signal = Strength::draw(draw).signal(kind, head);
    let blur = draw.range(2.0, 4.0);
    let grid = picture.grid.clone();
    let clouds = Lattice::new(draw, &grid, 6.0);
    let reach = 1.4 * radius + blur;
    grid.in_box(centre.map(|c| c - reach), centre.map(|c| c + reach), |voxel, p| {
        let v = sub(p, centre);
        let n = length(v);
        let d = if n < 0.3 { -radius } else { n - radius * outline.radius(v.map(|x| x / n)) };
        let share = cover(d, blur) * picture.tissue[voxel];
        if share <= 0.0 {
            return;
        }
        let cloud = 1.0 + 0.1 * clouds.at(p);
        let there: &mut Signal = &mut picture.values[voxel];
        for (value, signal) in there.iter_mut().zip(signal) {
            if let Some(signal) = signal {
                *value += (signal * cloud - *value) * 0.92 * share;
            }
        }
        if d <= 0.0 && picture.tissue[voxel] > 0.5 {
            mask[voxel] = 1;
        }
    });
}
