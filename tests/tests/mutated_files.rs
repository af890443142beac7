//! Real scans of every format with damage in their headers, through the reader that `host run` uses: each is read or
//! refused, none ends the process, and none takes more memory than the bound below.
//!
//! `ANYMC3D_MUTATIONS=1000000` for a long run, `ANYMC3D_SEED=7` for another one. Besides the files of this repository those
//! of `$ANYMC3D_DATA/dicom` are mutated where they are there.

use anymc3d_host::memory::MemoryBudget;
use anymc3d_host::scan::{GeometryLimits, ReadLimits, Scan};
use anymc3d_tests::allocations::{Counting, Draw, begin, most_since};
use anymc3d_tests::{data, workspace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MUTATIONS: usize = 3_000;
/// What a scan may take.
const CAP: usize = 16 << 20;
/// The bound of all that is allocated for one file, of which none is longer than `LONGEST`: the cap, the file a few times
/// over, and what decoders of compressed frames need.
const BOUND: usize = 96 << 20;
const LONGEST: u64 = 700 << 10;

struct Original {
    /// With its extension, which MetaImage and pairs are known by.
    name: String,
    bytes: Vec<u8>,
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn originals() -> Vec<Original> {
    let root = workspace();
    let mut files = files_below(&root.join("host/dicom/tests/fixtures"));
    files.extend(files_below(&root.join("tests/fixtures/formats")));
    // Of real series some slices each.
    files.extend(files_below(&data().0.join("dicom")).into_iter().step_by(3));
    files.extend(files_below(&data().0.join("example_ct_dicom")).into_iter().step_by(7));
    let no_scan = ["LICENSE", "README.md", "values.json", "expected.json"];
    let is_scan = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !no_scan.iter().any(|n| *n == name) && path.metadata().is_ok_and(|m| m.len() <= LONGEST)
    };
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(Original { name, bytes: std::fs::read(path).ok()? })
    };
    files.into_iter().filter(is_scan).filter_map(read).collect()
}

/// Some changes, most of them where lengths and counts are.
fn mutate(draw: &mut Draw, bytes: &mut Vec<u8>) {
    for _ in 0..=draw.below(6) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len() as u64;
        let header = length.min(4096);
        let at = if draw.below(4) > 0 { draw.below(header) } else { draw.below(length) } as usize;
        match draw.below(12) {
            0..=3 => bytes[at] = draw.bits() as u8,
            4 => bytes[at] ^= 1 << draw.below(8),
            5..=7 => {
                let word = draw.of(&[0, 1, u32::MAX, 0x7FFF_FFFF, 0x8000_0000, 0xFFFE_E000, draw.0 as u32]);
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
            }
            // Digits of text headers.
            8 => bytes[at] = draw.of(b"0123456789-.e \n\\"),
            9 => bytes.truncate(at + 1),
            10 => drop(bytes.drain(at..(at + 1 + draw.below(64) as usize).min(length as usize))),
            _ => {
                let part = bytes[at..(at + 1 + draw.below(64) as usize).min(length as usize)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

/// A file that a detached header names.
fn write_partners(folder: &Path, originals: &[Original]) {
    let partners = [".raw", ".zraw", ".img"];
    for original in originals.iter().filter(|o| partners.iter().any(|e| o.name.ends_with(e))) {
        std::fs::write(folder.join(&original.name), &original.bytes).unwrap();
    }
}

#[test]
fn damaged_files_of_every_format_are_read_or_refused_within_the_bound() {
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let originals = originals();
    assert!(originals.len() > 40, "{}", originals.len());
    write_partners(folder.path(), &originals);
    let mut draw =
        Draw(0x5eed_0017_0000_0001 ^ (number("ANYMC3D_SEED", 0) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let limits =
        ReadLimits { geometry: GeometryLimits::SCANNER, ..ReadLimits::with_room(MemoryBudget::of(CAP)) };
    let mutations = number("ANYMC3D_MUTATIONS", MUTATIONS);
    let (mut read, mut highest) = (0usize, 0usize);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..mutations {
        let original = &originals[draw.below(originals.len() as u64) as usize];
        let mut bytes = original.bytes.clone();
        mutate(&mut draw, &mut bytes);
        // Another name each time: headers of DICOM are kept by path.
        let path = folder.path().join(format!("{n}-{}", original.name));
        std::fs::write(&path, &bytes).unwrap();
        let before = begin();
        let answer = Scan::open_within(&path, &limits);
        let most = most_since(before);
        highest = highest.max(most);
        assert!(most <= BOUND, "mutation {n} of {}: {most} bytes", original.name);
        match answer {
            Ok(scan) => {
                read += 1;
                assert!(scan.voxels.iter().all(|v| v.is_finite()), "mutation {n} of {}", original.name);
                assert_eq!(scan.voxels.len(), scan.shape.iter().product::<usize>());
            }
            Err(e) => {
                let message = e.to_string();
                assert!(!message.contains('\n'), "mutation {n} of {}: {message}", original.name);
                // DICOM's refusals end with their kind.
                let kind = message.rsplit_once('(').and_then(|(_, k)| k.strip_suffix(')')).unwrap_or("other");
                *kinds.entry(kind.chars().take(30).collect()).or_default() += 1;
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
    println!(
        "{mutations} mutations of {} files: {read} read, {} refused, at most {} MiB allocated",
        originals.len(),
        mutations - read,
        highest >> 20
    );
    let known = ["truncated", "malformed", "bad-attribute", "no-position", "not-dicom", "decode-failed"];
    println!("{:?}", known.map(|k| (k, kinds.get(k).copied().unwrap_or(0))));
    assert!(read > mutations / 50, "{read} of {mutations} were read: the draw reaches the pixels");
}
