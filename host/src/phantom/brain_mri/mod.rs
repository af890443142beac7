//! A head in T1, T2 and FLAIR, with a lesion of one of three sorts in three quarters of the cases.
//!
//! Size, place and outline have the same distribution for all sorts. Only the signal differs: in every single
//! sequence two classes look equal (`+` brighter, `-` darker than the white matter, `0` no change):
//!
//! | class  | T1 | T2 | FLAIR | alike on T1 | on T2          | on FLAIR |
//! |--------|----|----|-------|-------------|----------------|----------|
//! | none   | 0  | 0  | 0     | tumour      |                |          |
//! | stroke | -  | +  | +     | cyst        | tumour, cyst   | tumour   |
//! | tumour | 0  | +  | +     | none        | stroke, cyst   | stroke   |
//! | cyst   | -  | +  | -     | stroke      | stroke, tumour |          |
//!
//! Harmless findings of the same geometry mimic a signal that only a single class has in a sequence. Two thirds of
//! the cases of every class have such a finding: an old calcified focus (dark in all three, like a cyst on FLAIR,
//! like a cyst or a stroke on T1) or a stain (bright on T2 alone).

mod brain;
mod depths;
mod head;
mod lesion;
mod magnet;
mod shell;
mod tissue;

use super::draw::{Draw, Stream};
use super::{Finding, Image, PhantomCase, Task, scanner};
use lesion::Kind;

pub(super) const TASK: Task = Task {
    name: "brain_mri",
    column: "class",
    classes: &["none", "stroke", "tumour", "cyst"],
    sequences: &["t1", "t2", "flair"],
    findings: "lesions",
};

/// A head before the magnet saw it, on the phantom's own axes.
struct Painted {
    picture: tissue::Picture,
    mask: Vec<u8>,
    placed: Vec<lesion::Placed>,
    orientation: scanner::Orientation,
    head: head::Head,
}

/// Paints case `key` as if it were of `class`.
fn paint(key: [u8; 32], class: usize) -> Painted {
    let mut anatomy = Draw::new(key, Stream::Anatomy);
    let mut scanner = Draw::new(key, Stream::Scanner);
    let head = head::Head::draw(&mut anatomy);
    let mut picture = tissue::Picture::new(head.grid(&mut scanner));
    let orientation = scanner::Orientation::draw(&mut scanner);

    let mut texture = Draw::new(key, Stream::Texture);
    shell::paint(&head, &mut texture, &mut picture);
    brain::paint(&head, &mut texture, &mut picture);
    depths::paint(&head, &mut texture, &mut picture);
    let mut findings = Draw::new(key, Stream::Findings);
    depths::spots(&head, &mut findings, &mut picture);

    let mut placed = lesion::harmless(&head, &mut findings, &mut picture);
    let first = placed.len();
    let mut mask = vec![0u8; picture.grid.len()];
    if let Some(kind) = Kind::of_class(class) {
        let mut draw = Draw::new(key, Stream::Lesions);
        lesion::paint(kind, &head, &mut draw, &mut picture, &mut mask, &mut placed);
    }
    placed.drain(..first);
    Painted { picture, mask, placed, orientation, head }
}

pub(super) fn case(name: String, key: [u8; 32], class: usize) -> PhantomCase {
    let Painted { picture, mask, placed, orientation, head } = paint(key, class);
    let missing = missing(key);
    let mut noise = Draw::new(key, Stream::Noise);
    let mut images = Vec::new();
    for (s, sequence) in TASK.sequences.iter().enumerate() {
        // Taken even where it is then missing: what one sequence looks like does not rest on another.
        let voxels = magnet::acquire(&head, s, &mut noise, &picture);
        if missing != Some(s) {
            let voxels = orientation.store(&picture.grid, &voxels);
            images.push(Image { sequence: Some(sequence), voxels });
        }
    }
    let finding = |p: &lesion::Placed| Finding {
        kind: Some(TASK.classes[class]),
        centre_mm: orientation.to_ras(p.centre),
        diameter_mm: f64::from(2.0 * p.radius),
    };
    PhantomCase {
        name,
        images,
        mask: Some(orientation.store(&picture.grid, &mask)),
        shape: orientation.shape(&picture.grid),
        affine: orientation.affine(&picture.grid),
        class,
        findings: placed.iter().map(finding).collect(),
    }
}

/// The sequence that a fifth of the cases lack.
fn missing(key: [u8; 32]) -> Option<usize> {
    let mut draw = Draw::new(key, Stream::Missing);
    draw.chance(0.2).then(|| draw.below(TASK.sequences.len()))
}

#[cfg(test)]
mod tests;
