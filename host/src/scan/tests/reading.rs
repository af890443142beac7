//! What a file holds: formats, types, scaling, damage.

use super::super::files_of;
use super::*;

#[test]
fn every_scalar_type_reads_in_both_byte_orders() {
    macro_rules! case {
        ($t:ty, $code:expr) => {
            for big in [false, true] {
                let values = (0..24u8).map(|v| v as $t);
                let bytes: Vec<u8> =
                    values.flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
                let scan = File::of(big, $code, 8 * size_of::<$t>() as i16, bytes).open().unwrap();
                let expected: Vec<f32> = (0..24u8).map(f32::from).collect();
                assert_eq!(
                    (scan.voxels, scan.shape),
                    (expected, [2, 3, 4]),
                    "{} big-endian {big}",
                    stringify!($t)
                );
                assert!(scan.warnings.is_empty(), "{:?}", scan.warnings);
            }
        };
    }
    case!(u8, 2);
    case!(i16, 4);
    case!(i32, 8);
    case!(f32, 16);
    case!(f64, 64);
    case!(i8, 256);
    case!(u16, 512);
    case!(u32, 768);
    case!(i64, 1024);
    case!(u64, 1280);
}

#[test]
fn types_that_are_no_scan_are_refused_by_name() {
    for (code, words) in [
        (32, "complex"),
        (1792, "complex"),
        (128, "colour"),
        (1536, "128-bit"),
        (1, "data type 1"),
        (0, "data type 0"),
    ] {
        let message = refusal(File::new().i16_at(70, code).open());
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn slope_zero_and_nan_mean_no_scaling() {
    let first = |slope: f32, inter: f32| {
        let scan = File::new().f32_at(112, slope).f32_at(116, inter).open().unwrap();
        (scan.voxels[0], scan.voxels[1])
    };
    assert_eq!(first(0.0, 5.0), (0.0, 1.0));
    assert_eq!(first(f32::NAN, 5.0), (0.0, 1.0));
    assert_eq!(first(2.0, -1024.0), (-1024.0, -1022.0));
    assert_eq!(first(-1.0, 0.5), (0.5, -0.5));
    assert_eq!(first(3.0, f32::NAN), (0.0, 3.0));
}

#[test]
fn the_content_decides_and_a_wrong_name_is_told() {
    let plain = File::new().bytes();
    assert!(open("a.nii.gz", &gz(&plain)).unwrap().warnings.is_empty());
    for (name, bytes) in [("a.nii", gz(&plain)), ("a.nii.gz", plain.clone()), ("a.dcm", plain.clone())] {
        let scan = open(name, &bytes).unwrap();
        assert!(scan.warnings.len() == 1 && scan.warnings[0].contains("by content"), "{:?}", scan.warnings);
        assert_eq!(scan.voxels[23], 23.0);
    }
}

#[test]
fn the_hash_is_of_the_files_bytes() {
    let scan = open("a.nii", &File::new().bytes()).unwrap();
    let expected: String = {
        use sha2::{Digest, Sha256};
        Sha256::digest(File::new().bytes()).iter().map(|b| format!("{b:02x}")).collect()
    };
    assert_eq!((scan.sha256.len(), scan.sha256), (64, expected));
}

#[test]
fn gzip_members_that_split_header_and_voxels_read_as_one() {
    let bytes = File::new().bytes();
    let split = [gz(&bytes[..100]), gz(&bytes[100..360]), gz(&bytes[360..])].concat();
    assert_eq!(open("a.nii.gz", &split).unwrap().voxels[23], 23.0);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let plain = File::new().bytes();
    let zipped = gz(&plain);
    for (name, whole) in [("a.nii", &plain), ("a.nii.gz", &zipped)] {
        for n in 0..whole.len() {
            let message = refusal(open(name, &whole[..n]));
            assert!(message.contains(name), "{n}: {message}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_gzip_stream_is_refused() {
    let mut zipped = gz(&File::new().bytes());
    let n = zipped.len();
    zipped[n - 6] ^= 1; // in the checksum
    assert!(refusal(open("a.nii.gz", &zipped)).contains("damaged gzip"));
}

#[test]
fn a_header_that_claims_terabytes_is_refused_before_memory_is_asked_for() {
    let mut huge = File::new().i16_at(42, 30000).i16_at(44, 30000).i16_at(46, 30000);
    for at in [280, 300, 320] {
        huge = huge.f32_at(at, 0.1);
    }
    assert!(refusal(huge.open()).contains("needs 54000000000000"));
    assert!(refusal(open("a.nii.gz", &gz(&huge.bytes()))).contains("needs 54000000000000"));
}

#[test]
fn text_named_as_a_scan_is_refused_with_one_clear_line() {
    let message = refusal(open("scan.nii.gz", b"case,image\n1,a.nii.gz\n"));
    assert!(
        message.contains("scan.nii.gz: found text, expected a scan") && message.contains("check that"),
        "{message}"
    );
    assert!(
        refusal(open("scan.nii.gz", &gz(b"hello, this is text, only compressed"))).contains("text, gzipped")
    );
}

#[test]
fn other_headers_are_refused_by_name() {
    let mut analyze = File::new();
    analyze.header[344..348].fill(0);
    assert!(refusal(analyze.open()).contains("Analyze 7.5"));
    assert!(refusal(File::new().i32_at(0, 540).open()).contains("NIfTI-2"));
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(Scan::open(folder.path())).contains("found a folder"));
    let absent = Scan::open(&folder.path().join("absent.nii")).unwrap_err().to_string();
    assert!(absent.contains("absent.nii: cannot be read"), "{absent}");
}

#[test]
fn a_pair_reads_from_either_half() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new().f32_at(108, 4.0);
    file.header[344..348].copy_from_slice(b"ni1\0");
    std::fs::write(folder.path().join("a.hdr"), &file.header[..348]).unwrap();
    let lone = refusal(Scan::open(&folder.path().join("a.hdr")));
    assert!(lone.contains("one half of a .hdr/.img pair"), "{lone}");
    std::fs::write(folder.path().join("a.img.gz"), gz(&[&[0; 4], file.voxels.as_slice()].concat())).unwrap();
    for half in ["a.hdr", "a.img.gz"] {
        let scan = Scan::open(&folder.path().join(half)).unwrap();
        assert_eq!((scan.voxels[23], scan.warnings.len()), (23.0, 0));
        let both = ["a.hdr", "a.img.gz"].map(|n| folder.path().join(n));
        assert_eq!(files_of(&folder.path().join(half)), both);
    }
    assert_eq!(files_of(&folder.path().join("b.nii.gz")), [folder.path().join("b.nii.gz")]);
}

#[test]
fn a_trailing_axis_of_one_is_squeezed_and_a_series_is_refused() {
    assert_eq!(File::new().i16_at(40, 5).open().unwrap().shape, [2, 3, 4]);
    let message = refusal(File::new().i16_at(40, 4).i16_at(46, 2).i16_at(48, 2).open());
    assert!(message.contains("2 volumes in one file") && message.contains("fslroi"), "{message}");
    let message = refusal(File::new().i16_at(40, 2).open());
    assert!(
        message.contains("a 2D image, dimensions [2, 3]") && message.contains("one 3D volume"),
        "{message}"
    );
    for bad in [0, 8, -1] {
        assert!(refusal(File::new().i16_at(40, bad).open()).contains("damaged"));
    }
    assert!(refusal(File::new().i16_at(42, 0).open()).contains("dimensions [0, 3, 4]"));
    assert!(refusal(File::new().i16_at(42, -2).open()).contains("damaged"));
}

#[test]
fn voxels_that_are_no_numbers_become_the_minimum_and_are_counted() {
    let mut values: Vec<f32> = (0..24).map(|v| v as f32 - 3.0).collect();
    (values[5], values[9]) = (f32::NAN, f32::NEG_INFINITY);
    let scan = File::of(false, 16, 32, values.iter().flat_map(|v| v.to_le_bytes()).collect()).open().unwrap();
    assert_eq!((scan.voxels[5], scan.voxels[9], scan.range()), (-3.0, -3.0, [-3.0, 20.0]));
    assert!(scan.warnings[0].starts_with("2 voxels are NaN or infinite"), "{:?}", scan.warnings);
    let nothing = File::of(false, 16, 32, [f32::NAN; 24].iter().flat_map(|v| v.to_le_bytes()).collect());
    assert!(refusal(nothing.open()).contains("no finite voxel"));
}

#[test]
fn a_constant_scan_opens_with_a_warning_and_says_that_it_is_constant() {
    let scan = File::of(false, 2, 8, vec![7; 24]).open().unwrap();
    assert!(scan.is_constant() && scan.warnings[0].contains("every voxel is 7"));
    assert!(!File::new().open().unwrap().is_constant());
}

#[test]
fn a_header_that_contradicts_itself_is_read_by_its_type_and_told() {
    let scan = File::new().i16_at(72, 32).f32_at(108, 0.0).open().unwrap();
    assert_eq!(scan.voxels[23], 23.0);
    assert!(scan.warnings.iter().any(|w| w.contains("bitpix is 32")), "{:?}", scan.warnings);
    assert!(scan.warnings.iter().any(|w| w.contains("taken as 352")), "{:?}", scan.warnings);
    assert_eq!(File::new().f32_at(108, f32::NAN).open().unwrap().voxels[23], 23.0);
}

#[test]
fn no_free_text_of_a_header_is_ever_told() {
    let mut file = File::new().i16_at(254, 0).i16_at(72, 1);
    for at in [14, 148, 228, 328] {
        file.header[at..at + 9].copy_from_slice(b"DOE^JOHN\0");
    }
    let scan = file.open().unwrap();
    assert!(!scan.warnings.is_empty() && !scan.warnings.join(" ").contains("DOE"));
    assert!(!refusal(file.i16_at(42, 0).open()).contains("DOE"));
}
