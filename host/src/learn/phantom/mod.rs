//! Procedural, labelled scans: what a task can be trained and tested on without a patient.
//!
//! Case `index` of `seed` depends on a hash of (task, seed, index) alone and is bit-identical on every
//! machine: transcendental functions come from `libm`, nothing is fused, hashed in random order or
//! shared between threads. So cases can be made one by one, in any order and in parallel.
//!
//! `lung_nodule` is a chest CT. Everything but the nodules is painted from streams of random numbers
//! that do not know the label: a positive case is the negative case of the same hash with one to three
//! nodules added.

mod bones;
mod chest;
mod draw;
mod findings;
mod grid;
mod mediastinum;
mod nodule;
mod noise;
mod scanner;
mod torso;
mod vessels;

use draw::{Draw, Stream};

/// A solid nodule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nodule {
    /// Centre, RAS mm.
    pub centre_mm: [f64; 3],
    /// Diameter in mm of the sphere of the same volume, before the pleura cuts it; 8 to 30.
    pub diameter_mm: f64,
}

/// One synthetic scan with its truth.
#[derive(Debug, Clone, PartialEq)]
pub struct PhantomCase {
    /// `TASK_SEED_INDEX`.
    pub name: String,
    /// HU, first axis fastest.
    pub voxels: Vec<i16>,
    /// 1 in a nodule, else 0; as `voxels`.
    pub mask: Vec<u8>,
    /// Voxels along each stored axis.
    pub shape: [usize; 3],
    /// Stored voxel index to RAS mm; orientations vary between cases.
    pub affine: [[f64; 4]; 4],
    /// Whether there is a nodule.
    pub label: bool,
    /// One to three where the label is true.
    pub nodules: Vec<Nodule>,
}

/// There is no phantom of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no phantom is called `{found}`; there is: {}", tasks().join(", "))]
pub struct UnknownTask {
    found: String,
}

/// Names of the phantoms.
pub fn tasks() -> &'static [&'static str] {
    &["lung_nodule"]
}

/// Makes case `index` of `seed`.
///
/// # Errors
/// [`UnknownTask`] where `task` is not one of [`tasks`].
pub fn generate(task: &str, seed: u64, index: u64) -> Result<PhantomCase, UnknownTask> {
    match task {
        "lung_nodule" => {
            let key = draw::case_key(task, seed, index);
            Ok(lung_nodule(format!("{task}_{seed}_{index}"), key, label_of(key)))
        }
        _ => Err(UnknownTask { found: task.to_owned() }),
    }
}

/// The label column that goes with a phantom, or `None` for an unknown one.
pub fn label_name(task: &str) -> Option<&'static str> {
    (task == "lung_nodule").then_some("nodule")
}

/// A fair coin.
fn label_of(key: [u8; 32]) -> bool {
    Draw::new(key, Stream::Label).chance(0.5)
}

fn lung_nodule(name: String, key: [u8; 32], label: bool) -> PhantomCase {
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
        nodule::paint(&mut Draw::new(key, Stream::Nodules), &mut canvas, &trees, chest.blood, &mut mask)
    } else {
        Vec::new()
    };
    let voxels = scanner::acquire(&protocol, &mut Draw::new(key, Stream::Noise), &mut canvas);
    PhantomCase {
        name,
        voxels: orientation.store(&canvas.grid, &voxels),
        mask: orientation.store(&canvas.grid, &mask),
        shape: orientation.shape(&canvas.grid),
        affine: orientation.affine(&canvas.grid),
        label,
        nodules: placed
            .iter()
            .map(|n| Nodule { centre_mm: orientation.to_ras(n.centre), diameter_mm: f64::from(n.diameter) })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
