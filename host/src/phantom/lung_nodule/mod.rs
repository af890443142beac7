//! Chest CT, half of the cases with one to three solid nodules.

mod bones;
mod chest;
mod findings;
mod mediastinum;
mod nodule;
mod torso;
mod vessels;

use super::draw::{Draw, Stream};
use super::{Finding, Image, PhantomCase, Task, grid, scanner};

pub(super) const TASK: Task =
    Task { name: "lung_nodule", column: "nodule", classes: &["0", "1"], sequences: &[], findings: "nodules" };

pub(super) fn case(name: String, key: [u8; 32], label: bool) -> PhantomCase {
    let mut scanner = Draw::new(key, Stream::Scanner);
    let chest = chest::Chest::draw(&mut Draw::new(key, Stream::Anatomy));
    let mut canvas = grid::Canvas::new(chest.grid(&mut scanner));
    let protocol = scanner::Protocol::draw(&mut scanner);
    let orientation = scanner::Orientation::draw(&mut scanner);

    let mut texture = Draw::new(key, Stream::Texture);
    torso::paint(&chest, &mut texture, &mut canvas);
    mediastinum::paint(&chest, &mut texture, &mut canvas);
    bones::paint(&chest, &mut texture, &mut canvas);
    let trees = vessels::paint(&chest, &mut Draw::new(key, Stream::Vessels), &mut canvas);
    findings::paint(&mut Draw::new(key, Stream::Findings), &mut canvas);

    let mut mask = vec![0u8; canvas.grid.len()];
    let placed = if label {
        nodule::paint(&mut Draw::new(key, Stream::Lesions), &mut canvas, &trees, chest.blood, &mut mask)
    } else {
        Vec::new()
    };
    let voxels = scanner::acquire(&protocol, &mut Draw::new(key, Stream::Noise), &mut canvas);
    let finding = |n: &nodule::Placed| Finding {
        kind: None,
        centre_mm: orientation.to_ras(n.centre),
        diameter_mm: f64::from(n.diameter),
    };
    PhantomCase {
        name,
        images: vec![Image { sequence: None, voxels: orientation.store(&canvas.grid, &voxels) }],
        // A negative's mask is all zero, and says so: "nothing here" is supervision too.
        mask: Some(orientation.store(&canvas.grid, &mask)),
        shape: orientation.shape(&canvas.grid),
        affine: orientation.affine(&canvas.grid),
        class: usize::from(label),
        findings: placed.iter().map(finding).collect(),
    }
}

#[cfg(test)]
mod tests;
