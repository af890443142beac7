//! Stored samples to values: every format that is read, and what is refused.

mod common;

use std::fs;

use anymc3d_dicom::{DicomError, ErrorKind, FilePixels, Limits, read_file, read_volume, scan};
use common::{DataSet, ct_slice, data, fixtures, folder};
use sha2::{Digest, Sha256};

fn read(set: &DataSet) -> Result<FilePixels, DicomError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    set.write(&path);
    read_file(&path, &Limits::default())
}

fn refused(set: &DataSet) -> ErrorKind {
    read(set).unwrap_err().kind
}

#[test]
fn the_fixtures_have_the_values_of_pydicom() {
    let text = fs::read_to_string(fixtures().join("values.json")).unwrap();
    let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(table.len(), 10);
    for (name, expected) in table {
        let found = read_file(&fixtures().join(&name), &Limits::default()).unwrap();
        let dims: Vec<u64> = found.dims.iter().map(|d| *d as u64).collect();
        assert_eq!(serde_json::json!(dims), expected["dims"], "{name}");
        let bytes: Vec<u8> = found.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(serde_json::json!(digest), expected["sha256"], "{name}");
    }
}

#[test]
fn nine_transfer_syntaxes_give_the_same_pixels_bit_for_bit() {
    let Some(folder) = data("dicom/dcm_qa_ts/In") else { return };
    let first = read_file(&folder.join("1.dcm"), &Limits::default()).unwrap();
    for n in 2..=9 {
        match read_file(&folder.join(format!("{n}.dcm")), &Limits::default()) {
            Ok(found) => assert_eq!(found.values, first.values, "{n}.dcm, {}", found.transfer_syntax),
            Err(e) => {
                assert_eq!(e.kind, ErrorKind::JpegLsNotBuilt, "{e}");
                assert!(!cfg!(feature = "jpeg-ls") && [7, 8].contains(&n), "{e}");
            }
        }
    }
}

#[test]
fn unused_bits_are_cut_off_and_the_sign_is_extended() {
    // 12 bits stored: 0xFFF is −1 where signed, 4095 where not; the four bits above are an overlay.
    let pixels: Vec<u8> = [0x0FFF_u16, 0xF001, 0x0800, 0x37FF].iter().flat_map(|v| v.to_le_bytes()).collect();
    let set = ct_slice(0, 0.0)
        .u16(0x0028_0010, 1)
        .u16(0x0028_0101, 12)
        .u16(0x0028_0102, 11)
        .set(0x0028_1052, "DS", "0")
        .set(0x7FE0_0010, "OW", pixels);
    assert_eq!(read(&set).unwrap().values, [4095.0, 1.0, 2048.0, 2047.0]);
    assert_eq!(read(&set.clone().u16(0x0028_0103, 1)).unwrap().values, [-1.0, 1.0, -2048.0, 2047.0]);
    assert_eq!(refused(&set.u16(0x0028_0102, 15)), ErrorKind::UnsupportedPixelFormat);
}

#[test]
fn every_sixteen_bit_number_has_the_value_that_f64_gives_it() {
    let pixels: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let all = ct_slice(0, 0.0).u16(0x0028_0010, 256).u16(0x0028_0011, 256).set(0x7FE0_0010, "OW", pixels);
    for (stored, signed) in [(16, 0), (16, 1), (12, 0), (12, 1)] {
        for (slope, intercept) in
            [("1", "-1024"), ("1", "0"), ("1", "-1024.5"), ("1", "16777217"), ("0.1", "-3")]
        {
            let set = all
                .clone()
                .u16(0x0028_0101, stored)
                .u16(0x0028_0102, stored - 1)
                .u16(0x0028_0103, signed)
                .set(0x0028_1052, "DS", intercept)
                .set(0x0028_1053, "DS", slope);
            let number = |text: &str| text.parse::<f64>().unwrap();
            for (n, found) in read(&set).unwrap().values.iter().enumerate() {
                let low = n as i64 & ((1 << stored) - 1);
                let value = if signed == 1 && low >> (stored - 1) == 1 { low - (1 << stored) } else { low };
                let expected = (value as f64 * number(slope) + number(intercept)) as f32;
                assert_eq!(*found, expected, "{n}, {stored} bits, {slope}, {intercept}");
            }
        }
    }
}

#[test]
fn eight_and_thirty_two_bits_and_floats_are_read() {
    let set = ct_slice(0, 0.0).u16(0x0028_0010, 1).set(0x0028_1052, "DS", "0");
    let bits = |set: DataSet, n: u16| set.u16(0x0028_0100, n).u16(0x0028_0101, n).u16(0x0028_0102, n - 1);
    let eight = bits(set.clone(), 8).set(0x7FE0_0010, "OB", [0, 1, 200, 255]);
    assert_eq!(read(&eight).unwrap().values, [0.0, 1.0, 200.0, 255.0]);
    assert_eq!(read(&eight.u16(0x0028_0103, 1)).unwrap().values, [0.0, 1.0, -56.0, -1.0]);
    let wide: Vec<u8> = [0_u32, 1, 70_000, u32::MAX].iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide = bits(set.clone(), 32).set(0x7FE0_0010, "OW", wide);
    assert_eq!(read(&wide).unwrap().values, [0.0, 1.0, 70_000.0, 4_294_967_295.0]);
    let floats: Vec<u8> = [0.5_f32, -1e30, f32::NAN, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let floats = bits(set.without(0x7FE0_0010), 32).set(0x7FE0_0008, "OF", floats);
    let values = read(&floats).unwrap().values;
    assert_eq!((values[0], values[1], values[3]), (0.5, -1e30, 3.0));
    assert!(values[2].is_nan());
}

#[test]
fn one_bit_pixels_are_packed_across_frames() {
    // Three frames of 7 × 5 are 105 bits in 14 bytes; frames begin at bits 0, 35 and 70.
    let mut packed = [0_u8; 14];
    for bit in [0, 34, 35, 70, 104] {
        packed[bit / 8] |= 1 << (bit % 8);
    }
    let set = ct_slice(0, 0.0)
        .u16(0x0028_0010, 7)
        .u16(0x0028_0011, 5)
        .set(0x0028_0008, "IS", "3")
        .u16(0x0028_0100, 1)
        .u16(0x0028_0101, 1)
        .u16(0x0028_0102, 0)
        .without(0x0028_1052)
        .without(0x0028_1053)
        .set(0x7FE0_0010, "OB", packed);
    let found = read(&set).unwrap();
    assert_eq!(found.dims, [3, 7, 5]);
    let on: Vec<usize> = (0..105).filter(|i| found.values[*i] == 1.0).collect();
    assert_eq!(on, [0, 34, 35, 70, 104]);
}

#[test]
fn a_rescale_that_is_partial_unreadable_zero_or_not_finite_is_refused() {
    let set = ct_slice(0, 0.0);
    for bad in [
        set.clone().set(0x0028_1053, "DS", "0"),
        set.clone().set(0x0028_1053, "DS", "1,5"),
        set.clone().set(0x0028_1053, "DS", "nan"),
        set.clone().set(0x0028_1052, "DS", "inf"),
        set.clone().set(0x0028_1053, "DS", "1\\2"),
        set.clone().set(0x0028_1053, "DS", "2").without(0x0028_1052),
        set.clone().without(0x0028_1053),
    ] {
        assert_eq!(refused(&bad), ErrorKind::BadRescale);
    }
    let none = set.without(0x0028_1052).without(0x0028_1053);
    assert_eq!(read(&none).unwrap().values[3], 3.0);
}

#[test]
fn a_text_that_is_no_number_is_not_repeated_in_an_error() {
    let error = read(&ct_slice(0, 0.0).set(0x0028_1053, "DS", "DOE^JANE")).unwrap_err();
    assert!(!error.to_string().contains("DOE"), "{error}");
    assert!(error.to_string().contains("RescaleSlope"), "{error}");
}

#[test]
fn a_modality_lut_is_applied() {
    let entries: Vec<u8> = [500_u16, 600, 700].iter().flat_map(|v| v.to_le_bytes()).collect();
    let descriptor: Vec<u8> = [3_u16, 2, 16].iter().flat_map(|v| v.to_le_bytes()).collect();
    let item = DataSet::default().set(0x0028_3002, "US", descriptor).set(0x0028_3006, "OW", entries);
    let lut = ct_slice(0, 0.0)
        .without(0x0028_1052)
        .without(0x0028_1053)
        .items(0x0028_3000, std::slice::from_ref(&item));
    assert_eq!(read(&lut).unwrap().values[..5], [500.0, 500.0, 500.0, 600.0, 700.0]);
    assert_eq!(refused(&ct_slice(0, 0.0).items(0x0028_3000, &[item])), ErrorKind::BadRescale);
}

#[test]
fn slope_and_intercept_may_differ_from_slice_to_slice() {
    let files: Vec<DataSet> = (0..4)
        .map(|n| {
            ct_slice(n, f64::from(n) * 3.0)
                .set(0x0008_0060, "CS", "PT")
                .set(0x0028_1053, "DS", format!("{}", n + 1))
                .set(0x0028_1052, "DS", "0")
        })
        .collect();
    let folder = folder(&files);
    let found = scan(folder.path(), &Limits::default()).unwrap();
    let volume = read_volume(&found, &found.studies[0].series[0], 0, &Limits::default()).unwrap();
    for (n, slice) in volume.voxels.chunks(12).enumerate() {
        assert_eq!(slice[2], ((100 * n + 2) * (n + 1)) as f32);
    }
}

#[test]
fn a_series_with_a_rescale_on_some_slices_only_is_refused() {
    let bare = ct_slice(1, 2.0).without(0x0028_1052).without(0x0028_1053);
    let folder = folder(&[ct_slice(0, 0.0), bare, ct_slice(2, 4.0)]);
    let found = scan(folder.path(), &Limits::default()).unwrap();
    let error = read_volume(&found, &found.studies[0].series[0], 0, &Limits::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRescale);
    assert!(error.to_string().contains("1 of 3"), "{error}");
}

#[test]
fn padding_becomes_the_lowest_value_and_is_counted() {
    let pixels: Vec<u8> =
        [63536_u16, 10, 20, 63536, 5, 6, 7, 8, 9, 10, 11, 12].iter().flat_map(|v| v.to_le_bytes()).collect();
    let set = ct_slice(0, 0.0).u16(0x0028_0103, 1).set(0x0028_0120, "SS", 63536_u16.to_le_bytes()).set(
        0x7FE0_0010,
        "OW",
        pixels,
    );
    let folder = folder(std::slice::from_ref(&set));
    let found = scan(folder.path(), &Limits::default()).unwrap();
    let volume = read_volume(&found, &found.studies[0].series[0], 0, &Limits::default()).unwrap();
    assert_eq!(volume.voxels[..4], [-1019.0, -1014.0, -1004.0, -1019.0]);
    assert_eq!(volume.replaced.padding, 2);
    // A comparison of files keeps the value: −2000 stored.
    assert_eq!(read(&set).unwrap().values[0], -3024.0);
}

#[test]
fn pictures_in_colour_are_refused_and_monochrome1_is_not_inverted() {
    assert_eq!(refused(&ct_slice(0, 0.0).u16(0x0028_0002, 3)), ErrorKind::Colour);
    assert_eq!(refused(&ct_slice(0, 0.0).set(0x0028_0004, "CS", "PALETTE COLOR")), ErrorKind::Colour);
    let inverted = ct_slice(0, 0.0).set(0x0028_0004, "CS", "MONOCHROME1");
    assert_eq!(read(&inverted).unwrap().values, read(&ct_slice(0, 0.0)).unwrap().values);
}

#[test]
fn a_header_that_claims_more_than_the_limit_allocates_nothing() {
    let huge =
        ct_slice(0, 0.0).u16(0x0028_0010, 65535).u16(0x0028_0011, 65535).set(0x0028_0008, "IS", "90000");
    assert_eq!(refused(&huge), ErrorKind::AboveLimit);
    assert_eq!(refused(&ct_slice(0, 0.0).set(0x0028_0008, "IS", "2147483647")), ErrorKind::AboveLimit);
    // More frames than pixels: the file is short, whatever the volume's limit.
    assert_eq!(refused(&ct_slice(0, 0.0).set(0x0028_0008, "IS", "2")), ErrorKind::Truncated);
}

#[test]
fn an_image_without_rows_is_refused_as_a_file_and_as_a_volume() {
    let set = ct_slice(0, 0.0).u16(0x0028_0010, 0);
    assert_eq!(refused(&set), ErrorKind::BadAttribute);
    let folder = folder(&[set]);
    let found = scan(folder.path(), &Limits::default()).unwrap();
    let error = read_volume(&found, &found.studies[0].series[0], 0, &Limits::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadAttribute);
}

#[test]
fn transfer_syntaxes_without_decoder_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, common::part10("1.2.840.10008.1.2.4.100", &ct_slice(0, 0.0).explicit())).unwrap();
    let error = read_file(&path, &Limits::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedTransferSyntax);
    assert!(error.to_string().contains("1.2.840.10008.1.2.4.100"));
}

#[test]
fn a_codestream_of_another_size_than_the_header_is_not_decoded() {
    let whole = fs::read(fixtures().join("dcm_qa_ts/9.dcm")).unwrap();
    // Rows (0028,0010) US: 384 → 383.
    let at = whole.windows(6).position(|w| w == [0x28, 0, 0x10, 0, b'U', b'S']).unwrap() + 8;
    let mut changed = whole;
    changed[at..at + 2].copy_from_slice(&383_u16.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, changed).unwrap();
    let error = read_file(&path, &Limits::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DecodeFailed);
    assert!(error.to_string().contains("384 × 384"), "{error}");
}
