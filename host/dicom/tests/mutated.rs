//! Damaged files: any bytes are read or refused, and nothing panics.

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use anymc3d_dicom::{Limits, Request, choose, read_file, read_volume, scan};
use common::{ct_slice, fixtures};
use proptest::prelude::*;

/// Real files of every kind that is committed, and one written here.
fn originals() -> &'static [Vec<u8>] {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let names = [
            "dcm_qa_ts/4.dcm",
            "dcm_qa_ts/9.dcm",
            "dcm_qa_enh/6_1.dcm",
            "dcmqi/IMG0001.dcm",
            "dcmqi/mf.dcm",
            "dcmqi/label.seg",
            "highdicom/ct_image.dcm",
            "highdicom/sr_document.dcm",
        ];
        let mut files: Vec<Vec<u8>> = names.iter().map(|n| fs::read(fixtures().join(n)).unwrap()).collect();
        files.push(ct_slice(3, 1.0).file());
        files.push(ct_slice(3, 1.0).implicit());
        files
    })
}

#[derive(Debug, Clone)]
enum Change {
    Byte(usize, u8),
    Word(usize, u32),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    // Most changes hit the header, where lengths and counts are.
    let at = prop_oneof![3 => 128..4096_usize, 1 => any::<usize>()];
    let extreme =
        prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(0xFFFE_E000), Just(0x7FFF_FFFF), any::<u32>()];
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(a, b)| Change::Byte(a, b)),
        3 => (at.clone(), extreme).prop_map(|(a, w)| Change::Word(a, w)),
        1 => at.clone().prop_map(Change::Cut),
        1 => (at.clone(), 1..64_usize).prop_map(|(a, n)| Change::Remove(a, n)),
        1 => (at, 1..64_usize).prop_map(|(a, n)| Change::Repeat(a, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let length = bytes.len().max(1);
    match *change {
        Change::Byte(at, b) => bytes[at % length] = b,
        Change::Word(at, w) => {
            let at = at % length;
            let end = (at + 4).min(length);
            bytes[at..end].copy_from_slice(&w.to_le_bytes()[..end - at]);
        }
        Change::Cut(at) => bytes.truncate(at % length + 1),
        Change::Remove(at, n) => {
            let at = at % length;
            bytes.drain(at..(at + n).min(length));
        }
        Change::Repeat(at, n) => {
            let at = at % length;
            let part = bytes[at..(at + n).min(length)].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

fn limits() -> Limits {
    Limits {
        file_bytes: 16 << 20,
        volume_bytes: 16 << 20,
        header_bytes: 4 << 20,
        frames: 1000,
        ..Limits::default()
    }
}

proptest! {
    // `PROPTEST_CASES=1000000` for a long run.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_read_or_refused(which in 0..10_usize, changes in prop::collection::vec(change(), 1..8)) {
        let mut bytes = originals()[which % originals().len()].clone();
        for change in &changes {
            if bytes.is_empty() {
                break;
            }
            apply(&mut bytes, change);
        }
        static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
        let (_, path) = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("damaged");
            (folder, path)
        });
        fs::write(path, &bytes).unwrap();
        let _ = read_file(path, &limits());
        if let Ok(found) = scan(path, &limits()) {
            for study in &found.studies {
                let _ = choose(study, &Request::default());
                for series in &study.series {
                    for stack in 0..series.stacks.len() {
                        if let Ok(volume) = read_volume(&found, series, stack, &limits()) {
                            prop_assert!(volume.voxels.iter().all(|v| v.is_finite()));
                            prop_assert_eq!(volume.voxels.len(), volume.dims.iter().product::<usize>());
                        }
                    }
                }
            }
        }
    }
}
