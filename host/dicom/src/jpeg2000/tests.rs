//! Codestreams of another encoder (`tests/outside/make_jpeg2000.py`), decoded here and by the general decoder.

use std::path::PathBuf;

use super::decode;
use crate::codec::general_samples;
use crate::codestream;

/// Name, bytes and bits allocated.
fn codestreams() -> Vec<(String, Vec<u8>, u32)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg2000");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "j2k"));
    files.sort();
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).unwrap();
        let bits = if codestream::jpeg_2000(&bytes).unwrap().precision > 8 { 16 } else { 8 };
        (file.file_stem().unwrap().to_string_lossy().into_owned(), bytes, bits)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn samples_are_the_general_decoders_whatever_the_encoder_was_told() {
    let all = codestreams();
    assert!(all.len() > 20, "{} codestreams", all.len());
    for (name, bytes, bits) in all {
        let general = general_samples(&bytes, bits).unwrap();
        match decode(&bytes, bits) {
            Some(samples) => assert!(samples == general, "{name}"),
            None => assert!(name.starts_with("general_"), "{name} was left to the general decoder"),
        }
        assert!(!name.starts_with("general_") || decode(&bytes, bits).is_none(), "{name} is not lossless");
    }
}

#[test]
fn a_codestream_cut_anywhere_is_left_to_the_general_decoder() {
    for (name, bytes, bits) in codestreams().into_iter().filter(|(name, ..)| !name.starts_with("general_")) {
        for length in (0..bytes.len() - 2).step_by(7) {
            assert_eq!(decode(&bytes[..length], bits), None, "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn a_damaged_codestream_is_left_to_the_general_decoder_or_gives_its_samples() {
    let mut seed = 20_261_130_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (mut own, mut all) = (0, 0);
    for (name, bytes, bits) in codestreams() {
        let size = codestream::jpeg_2000(&bytes).unwrap();
        for change in 0..40 {
            let mut damaged = bytes.clone();
            // The headers as often as all that follows.
            let within = if change % 2 == 0 { damaged.len().min(200) } else { damaged.len() };
            damaged[random(within)] = random(256) as u8;
            all += 1;
            let Some(samples) = decode(&damaged, bits) else { continue };
            // What states another size is refused before it is decoded.
            let stated = codestream::jpeg_2000(&damaged).unwrap();
            if (stated.rows, stated.columns) == (size.rows, size.columns) {
                own += 1;
                let general = general_samples(&damaged, bits);
                assert!(general.is_err() || general.is_ok_and(|g| g == samples), "{name}, change {change}");
            }
        }
    }
    assert!(own * 5 > all, "{own} of {all} were decoded here");
}
