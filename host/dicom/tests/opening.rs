//! Files as they come: with and without what the standard asks for.

mod common;

use std::fs;
use std::path::Path;

use anymc3d_dicom::{DicomError, ErrorKind, FilePixels, Limits, read_file, scan};
use common::{DataSet, ct_slice, folder, part10};

fn read(bytes: &[u8]) -> Result<FilePixels, DicomError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    read_file(&path, &Limits::default())
}

fn expected() -> Vec<f32> {
    (0..12).map(|i| (700 + i) as f32 - 1024.0).collect()
}

#[test]
fn a_file_is_read_without_preamble_without_dicm_and_without_meta_group() {
    let file = ct_slice(7, 0.0).file();
    assert_eq!(read(&file).unwrap().values, expected());
    assert_eq!(read(&file[128..]).unwrap().values, expected(), "DICM first");
    assert_eq!(read(&file[132..]).unwrap().values, expected(), "group 2 first");
    assert_eq!(read(&ct_slice(7, 0.0).explicit()).unwrap().values, expected(), "explicit data set");
    assert_eq!(read(&ct_slice(7, 0.0).implicit()).unwrap().values, expected(), "implicit data set");
}

#[test]
fn a_data_set_in_the_other_form_than_the_meta_group_says_is_read() {
    let slice = ct_slice(7, 0.0);
    for (syntax, body) in [
        ("1.2.840.10008.1.2", slice.explicit()),
        ("1.2.840.10008.1.2.1", slice.implicit()),
        ("1.2.840.10008.1.2.2", slice.explicit()),
    ] {
        assert_eq!(read(&part10(syntax, &body)).unwrap().values, expected(), "{syntax}");
    }
}

#[test]
fn a_group_length_that_is_wrong_and_zeros_at_the_end_do_no_harm() {
    let meta = DataSet::default()
        .set(0x0002_0000, "UL", 9999_u32.to_le_bytes())
        .set(0x0002_0010, "UI", "1.2.840.10008.1.2.1")
        .explicit();
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    file.extend(meta);
    file.extend(ct_slice(7, 0.0).explicit());
    file.extend([0; 300]);
    assert_eq!(read(&file).unwrap().values, expected());
}

#[test]
fn a_deflated_data_set_is_read_and_one_that_is_too_large_is_refused() {
    let pack = |body: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).unwrap();
        part10("1.2.840.10008.1.2.1.99", &encoder.finish().unwrap())
    };
    let file = pack(&ct_slice(7, 0.0).explicit());
    assert_eq!(read(&file).unwrap().values, expected());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb");
    fs::write(&path, pack(&vec![0; 50 << 20])).unwrap();
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    assert_eq!(read_file(&path, &limits).unwrap_err().kind, ErrorKind::AboveLimit);
}

#[test]
fn numbers_in_elements_of_representation_un_are_read_as_the_standard_stores_them() {
    let un = |tag: u32, value: &[u8]| (tag, value.to_vec());
    let mut slice = ct_slice(7, 0.0);
    for (tag, value) in [
        un(0x0028_1052, b"-24 "),
        un(0x0028_1053, b"2 "),
        un(0x0028_0010, &3_u16.to_le_bytes()),
        un(0x0028_0100, &16_u16.to_le_bytes()),
    ] {
        slice = slice.set(tag, "UN", value);
    }
    let values: Vec<f32> = (0..12).map(|i| (700 + i) as f32 * 2.0 - 24.0).collect();
    assert_eq!(read(&slice.file()).unwrap().values, values);
}

/// CP-246: a sequence as UN of undefined length is implicit VR inside, nested ones too.
#[test]
fn a_sequence_of_undefined_length_in_un_is_read_as_implicit_vr() {
    let item = |content: &[u8]| {
        let mut out = vec![0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
        out.extend(content);
        out.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0]);
        out
    };
    let end = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
    let mut nested = vec![0x08, 0x00, 0x40, 0x11, 0xFF, 0xFF, 0xFF, 0xFF];
    nested.extend(item(&[0x08, 0x00, 0x50, 0x11, 2, 0, 0, 0, b'1', b'2']));
    nested.extend(end);
    let mut sequence = vec![0x05, 0x20, 0x02, 0x14, b'U', b'N', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    sequence.extend(item(&nested));
    sequence.extend(end);
    let whole = ct_slice(7, 0.0);
    let mut bytes = whole.clone().without(0x7FE0_0010).explicit();
    bytes.extend(sequence);
    let pixels = whole.explicit().len() - whole.clone().without(0x7FE0_0010).explicit().len();
    bytes.extend(&whole.explicit()[whole.explicit().len() - pixels..]);
    assert_eq!(read(&part10("1.2.840.10008.1.2.1", &bytes)).unwrap().values, expected());
}

#[test]
fn deep_nesting_is_refused() {
    let mut sequence = Vec::new();
    for _ in 0..100_000 {
        sequence.extend([0x08, 0x00, 0x40, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        sequence.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    assert_eq!(read(&part10("1.2.840.10008.1.2.1", &sequence)).unwrap_err().kind, ErrorKind::Malformed);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let file = ct_slice(7, 0.0).file();
    for cut in [133, 150, 200, 300, file.len() - 5] {
        let error = read(&file[..cut]).unwrap_err();
        let kinds = [ErrorKind::Truncated, ErrorKind::NotDicom, ErrorKind::NoPixelData];
        assert!(kinds.contains(&error.kind), "cut at {cut}: {error}");
    }
}

#[test]
fn files_of_other_kinds_are_counted_and_never_fatal() {
    let folder = folder(&[ct_slice(0, 0.0), ct_slice(1, 2.0)]);
    let deep = folder.path().join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("notes.txt"), "no image").unwrap();
    fs::write(folder.path().join("report.pdf"), "%PDF-1.7").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join("inner.zip"), b"PK\x03\x04rest").unwrap();
    ct_slice(2, 4.0).write(&deep.join("slice"));
    let found = scan(folder.path(), &Limits::default()).unwrap();
    assert_eq!(found.instances, 3);
    let counted: Vec<_> = found.other_files.into_iter().collect();
    assert_eq!(counted, [("PDF", 1), ("empty", 1), ("text", 1), ("zip", 1)]);
    assert_eq!(found.studies[0].series[0].stacks[0].slices(), 3);
}

#[test]
fn a_single_file_that_is_no_dicom_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "no image").unwrap();
    let error = scan(&path, &Limits::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::NotDicom);
    assert!(error.to_string().contains("notes.txt"));
    assert!(!error.without_file().contains("notes"));
    let error = scan(Path::new("/does/not/exist"), &Limits::default()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Io);
}

#[test]
fn limits_of_files_and_headers_are_kept() {
    let folder = folder(&[ct_slice(0, 0.0), ct_slice(1, 2.0)]);
    let limits = Limits { files: 1, ..Limits::default() };
    assert_eq!(scan(folder.path(), &limits).err().unwrap().kind, ErrorKind::AboveLimit);
    let large = ct_slice(0, 0.0).set(0x0019_1010, "OB", vec![1; 200_000]);
    let path = folder.path().join("large");
    large.write(&path);
    let limits = Limits { header_bytes: 100_000, ..Limits::default() };
    assert_eq!(scan(&path, &limits).err().unwrap().kind, ErrorKind::AboveLimit);
    assert!(scan(&path, &Limits::default()).is_ok());
}
