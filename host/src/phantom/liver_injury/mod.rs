//! Contrast CT of the upper abdomen, half of the cases with one or two injuries of the liver: a tear, or a
//! haematoma inside it or under its capsule, 15 to 40 HU darker than the enhanced organ.
//!
//! Cases of both labels have harmless dark structures: fissures, cysts, unenhanced hepatic veins in early phases,
//! patches of fat, a gallbladder. [`Base`] puts the same injuries into the organ of a real scan.

mod abdomen;
mod base;
mod benign;
mod bowel;
mod depth;
mod injury;
mod layers;
mod organs;

pub use base::{Base, BaseError};

use super::draw::{Draw, Stream};
use super::{Finding, Image, PhantomCase, Task, grid, scanner};
use injury::Organ;

pub(super) const TASK: Task = Task {
    name: "liver_injury",
    column: "injury",
    classes: &["0", "1"],
    sequences: &[],
    findings: "lesions",
};

/// An abdomen before the scanner saw it, on the phantom's own axes.
struct Painted {
    canvas: grid::Canvas,
    /// How much of each voxel is liver, 0..1.
    #[cfg(test)]
    liver: Vec<f32>,
    mask: Vec<u8>,
    placed: Vec<injury::Placed>,
    protocol: scanner::Protocol,
    orientation: scanner::Orientation,
}

fn paint(key: [u8; 32], label: bool) -> Painted {
    let mut scanner = Draw::new(key, Stream::Scanner);
    let abdomen = abdomen::Abdomen::draw(&mut Draw::new(key, Stream::Anatomy));
    let mut canvas = grid::Canvas::new(abdomen.grid(&mut scanner));
    let protocol = scanner::Protocol::abdominal(&mut scanner);
    let orientation = scanner::Orientation::draw(&mut scanner);

    let mut texture = Draw::new(key, Stream::Texture);
    layers::paint(&abdomen, &mut texture, &mut canvas);
    bowel::paint(&abdomen, &mut texture, &mut canvas);
    organs::paint(&abdomen, &mut texture, &mut canvas);
    let mut liver = organs::liver(&abdomen, &mut texture, &mut canvas);
    organs::vessels(&abdomen, &mut Draw::new(key, Stream::Vessels), &mut canvas, &liver);
    let outline = liver.clone();
    benign::paint(&abdomen, &mut Draw::new(key, Stream::Findings), &mut canvas, &mut liver);

    let mut mask = vec![0u8; canvas.grid.len()];
    let placed = if label {
        let organ = Organ::new(&canvas.grid, &outline, &liver);
        injury::paint(&mut Draw::new(key, Stream::Lesions), &organ, &mut canvas.hu, &mut mask)
    } else {
        Vec::new()
    };
    Painted {
        canvas,
        #[cfg(test)]
        liver,
        mask,
        placed,
        protocol,
        orientation,
    }
}

pub(super) fn case(name: String, key: [u8; 32], label: bool) -> PhantomCase {
    let Painted { mut canvas, mask, placed, protocol, orientation, .. } = paint(key, label);
    let voxels = scanner::acquire(&protocol, &mut Draw::new(key, Stream::Noise), &mut canvas);
    let finding = |p: &injury::Placed| Finding {
        kind: Some(p.kind.name()),
        centre_mm: orientation.to_ras(p.centre),
        diameter_mm: f64::from(p.size),
    };
    PhantomCase {
        name,
        images: vec![Image { sequence: None, voxels: orientation.store(&canvas.grid, &voxels) }],
        mask: masked(key).then(|| orientation.store(&canvas.grid, &mask)),
        shape: orientation.shape(&canvas.grid),
        affine: orientation.affine(&canvas.grid),
        class: usize::from(label),
        findings: placed.iter().map(finding).collect(),
    }
}

/// Whether a case comes with its mask: a quarter of either label does, as in collections that were annotated in part.
fn masked(key: [u8; 32]) -> bool {
    Draw::new(key, Stream::Mask).chance(0.25)
}

#[cfg(test)]
mod tests;
