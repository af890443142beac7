//! Procedural, labelled scans for training and testing a task without patients.
//!
//! Case `index` of `seed` depends only on a hash of (task, seed, index) and is bit-identical on every machine:
//! transcendental functions come from `libm`, and nothing is fused, hashed in random order or shared between
//! threads. Cases can therefore be made in any order and in parallel.
//!
//! `lung_nodule` is a chest CT, `brain_mri` a head in three sequences, `liver_injury` a contrast CT of the
//! abdomen. Everything except the lesions comes from streams of random numbers that do not depend on the label: a
//! case with lesions is the case of the same hash without lesions, with lesions added.

mod brain_mri;
mod draw;
#[cfg(test)]
mod golden;
mod grid;
mod liver_injury;
mod lung_nodule;
mod noise;
mod outline;
mod scanner;
mod spine;
mod trees;

pub use liver_injury::{Base, BaseError};

use draw::{Draw, Stream};

/// What a phantom is a phantom of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// As the command line knows it.
    pub name: &'static str,
    /// The table's label column: a binary label's name, or `class`.
    pub column: &'static str,
    /// What a case's class is called in that column; the first is the healthy one.
    pub classes: &'static [&'static str],
    /// The table's image columns `image.NAME`; none: one column `image`.
    pub sequences: &'static [&'static str],
    /// What the findings are called.
    pub findings: &'static str,
}

/// A lesion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// What sort of lesion it is, where the task has several.
    pub kind: Option<&'static str>,
    /// A point in its middle, RAS mm.
    pub centre_mm: [f64; 3],
    /// Diameter in mm of the sphere of the same volume, before organs' edges cut it; of a tear, its length.
    pub diameter_mm: f64,
}

/// One picture of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Of several, which; `None` where a case is one picture.
    pub sequence: Option<&'static str>,
    /// HU, or an MR's arbitrary units; first axis fastest.
    pub voxels: Vec<i16>,
}

/// One synthetic case with its truth.
#[derive(Debug, Clone, PartialEq)]
pub struct PhantomCase {
    /// `TASK_SEED_INDEX`.
    pub name: String,
    /// All on one grid. Fewer than the task has sequences where the case lacks one.
    pub images: Vec<Image>,
    /// 1 in a lesion, else 0; as an image's voxels. `None` where the task gives none for this case.
    pub mask: Option<Vec<u8>>,
    /// Voxels along each stored axis.
    pub shape: [usize; 3],
    /// Stored voxel index to RAS mm; orientations vary between cases.
    pub affine: [[f64; 4]; 4],
    /// Index into the task's classes; 0 is the healthy one.
    pub class: usize,
    /// At least one where there is something to find.
    pub findings: Vec<Finding>,
}

/// There is no phantom of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no phantom is called `{found}`; there is: {}", names().join(", "))]
pub struct UnknownTask {
    found: String,
}

/// The phantoms.
pub const TASKS: [Task; 3] = [lung_nodule::TASK, brain_mri::TASK, liver_injury::TASK];

/// Names of the phantoms.
pub fn names() -> [&'static str; 3] {
    TASKS.map(|task| task.name)
}

/// The phantom of that name.
///
/// # Errors
/// [`UnknownTask`] where `name` is not one of [`names`].
pub fn task(name: &str) -> Result<&'static Task, UnknownTask> {
    TASKS.iter().find(|t| t.name == name).ok_or_else(|| UnknownTask { found: name.to_owned() })
}

/// Makes case `index` of `seed`.
///
/// # Errors
/// [`UnknownTask`] where `name` is not one of [`names`].
pub fn generate(name: &str, seed: u64, index: u64) -> Result<PhantomCase, UnknownTask> {
    let task = task(name)?;
    let key = draw::case_key(name, seed, index);
    let case = format!("{name}_{seed}_{index}");
    let class = class_of(key, task.classes.len());
    Ok(match name {
        "brain_mri" => brain_mri::case(case, key, class),
        "liver_injury" => liver_injury::case(case, key, class == 1),
        _ => lung_nodule::case(case, key, class == 1),
    })
}

/// Each of `classes` equally often; of two, the second where a fair coin says so.
fn class_of(key: [u8; 32], classes: usize) -> usize {
    let mut draw = Draw::new(key, Stream::Label);
    if classes == 2 { usize::from(draw.chance(0.5)) } else { draw.below(classes) }
}

#[cfg(test)]
mod tests;
