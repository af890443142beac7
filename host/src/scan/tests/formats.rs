//! NRRD, MetaImage, NIfTI-2 and Analyze 7.5: each as other readers read it, or refused by its name.

use super::*;
use crate::scan::source::{digest_of, extension_of, files_of};
use crate::scan::tests::{noise, orientations, stored_as};
use serde_json::Value;
use std::path::Path;

/// Made by `tests/outside/formats.py` with SimpleITK and nibabel.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/formats")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn every_format_reads_as_simpleitk_and_nibabel_read_it() {
    let text = std::fs::read(fixtures().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let files = expected.as_object().unwrap();
    assert_eq!(files.len(), 33);
    for (name, expected) in files {
        let path = fixtures().join(name);
        let scan = Scan::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let shape: Vec<f64> = scan.shape.iter().map(|n| *n as f64).collect();
        assert_eq!(shape, numbers(&expected["shape"]), "{name}");
        for (row, expected) in scan.affine.0.iter().zip(expected["affine"].as_array().unwrap()) {
            let off = row.iter().zip(numbers(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // NIfTI-2 is kept with the digits of NIfTI-1.
            assert!(off < 1e-5, "{name}: {row:?} is not {expected}");
        }
        let voxels: Vec<f64> = scan.voxels.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(voxels, numbers(&expected["voxels"]), "{name}");
        assert_eq!(digest_of(&path).unwrap(), scan.sha256, "{name}");
        assert!(files_of(&path).iter().all(|f| f.is_file()), "{name}");
        assert!(extension_of(&path).is_some(), "{name}");
        let open = ["analyze", "no_space"].iter().any(|n| name.starts_with(n));
        let told = scan.warnings.iter().filter(|w| w.contains("which side is left")).count();
        assert_eq!(told, usize::from(open), "{name}: {:?}", scan.warnings);
    }
}

fn vector(v: [f64; 3]) -> String {
    format!("({},{},{})", v[0], v[1], v[2])
}

/// A scan as NRRD in RAS and as MetaImage in LPS, with numbers of 32-bit float.
fn written(scan: &Scan) -> [(&'static str, Vec<u8>); 2] {
    let column = |c: usize| [0, 1, 2].map(|r| scan.affine.0[r][c]);
    let data: Vec<u8> = scan.voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let [x, y, z] = scan.shape;
    let steps: Vec<String> = (0..3).map(|c| vector(column(c))).collect();
    let nrrd = format!(
        "NRRD0005\ntype: float\ndimension: 3\nspace: RAS\nsizes: {x} {y} {z}\nspace directions: {}\nendian: little\n\
         encoding: raw\nspace origin: {}\n\n",
        steps.join(" "),
        vector(column(3))
    );
    let lps = |v: [f64; 3]| [-v[0], -v[1], v[2]];
    let spacing = scan.affine.spacing();
    let directions: Vec<String> =
        (0..3).flat_map(|c| lps(column(c)).map(|v| (v / spacing[c]).to_string())).collect();
    let [ox, oy, oz] = lps(column(3));
    let meta = format!(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nElementByteOrderMSB = False\nTransformMatrix = {}\n\
         Offset = {ox} {oy} {oz}\nElementSpacing = {} {} {}\nDimSize = {x} {y} {z}\nElementType = MET_FLOAT\n\
         ElementDataFile = LOCAL\n",
        directions.join(" "),
        spacing[0],
        spacing[1],
        spacing[2]
    );
    [
        ("scan.nrrd", [nrrd.into_bytes(), data.clone()].concat()),
        ("scan.mha", [meta.into_bytes(), data].concat()),
    ]
}

#[test]
fn all_48_orientations_of_a_text_header_are_one_scan() {
    let affine = Affine::aligned([1.5, 2.0, 3.0], [-11.0, 7.0, 40.0]);
    let ras = Scan::from_voxels("ras", noise(4 * 3 * 5), [4, 3, 5], affine).unwrap();
    for (order, flip) in orientations() {
        let turned = stored_as(&ras, order, flip);
        for (name, bytes) in written(&turned) {
            let scan = open(name, &bytes).unwrap();
            assert_eq!(scan.orientation, turned.orientation, "{name}");
            let (ours, expected) = (scan.canonical(), ras.canonical());
            assert!(
                ours.voxels == expected.voxels && ours.shape == expected.shape,
                "{name} {order:?} {flip:?}"
            );
            assert!(
                ours.affine.corner_distance(&expected.affine, ours.shape) < 1e-9,
                "{name} {order:?} {flip:?}"
            );
        }
    }
}

const NRRD: &str = "NRRD0004\ntype: short\ndimension: 3\nspace: RAS\nsizes: 2 2 2\n\
    space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n0123456789abcdef";
const META: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = False\n\
    TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 2 2 2\n\
    ElementType = MET_SHORT\nElementDataFile = LOCAL\n0123456789abcdef";

#[test]
fn what_is_not_read_of_nrrd_and_metaimage_is_refused_by_name_without_a_word_of_its_text() {
    assert!(open("a.nrrd", NRRD.as_bytes()).is_ok() && open("a.mha", META.as_bytes()).is_ok());
    let nrrd: [(&str, &str, &str); 17] = [
        ("NRRD0004", "NRRD0009", "version 1 to 5"),
        ("encoding: raw", "encoding: bzip2", "the encoding bzip2"),
        ("encoding: raw", "encoding: hex", "the encoding hex"),
        ("encoding: raw", "encoding: DOE^JOHN", "one that is not known"),
        ("dimension: 3\n", "dimension: 4\n", "4 axes and 3 sizes"),
        (
            "dimension: 3\nspace: RAS\nsizes: 2 2 2",
            "dimension: 4\nspace: RAS\nsizes: 2 2 2 2",
            "several volumes",
        ),
        (
            "dimension: 3\nspace: RAS\nsizes: 2 2 2",
            "dimension: 4\nkinds: RGB-color domain domain domain\nspace: RAS\nsizes: 3 2 2 2",
            "colour voxels",
        ),
        ("dimension: 3\nspace: RAS\nsizes: 2 2 2", "dimension: 2\nspace: RAS\nsizes: 4 4", "2 axes"),
        ("type: short", "type: block", "NRRD of blocks"),
        ("type: short", "type: DOE^JOHN", "a type that is not known"),
        ("space: RAS", "space: scanner-xyz", "a space that is not the patient's"),
        ("(0,1,0)", "none", "three vectors"),
        ("(0,1,0)", "(2,0,0)", "a singular affine"),
        ("endian: little\n", "", "no byte order"),
        ("endian: little", "endian: little\ndata file: LIST", "several files"),
        ("endian: little", "endian: little\ndata file: DOE^JOHN.raw", "not there"),
        ("endian: little", "endian: little\ndata file: ../DOE^JOHN.raw", "outside its own folder"),
    ];
    let meta: [(&str, &str, &str); 14] = [
        ("NDims = 3", "NDims = 4", "MetaImage of 4 axes"),
        ("DimSize = 2 2 2", "DimSize = 2 2 2 2", "MetaImage of 3 axes, [2, 2, 2, 2]"),
        ("NDims = 3", "NDims = 3\nElementNumberOfChannels = 3", "several channels"),
        ("BinaryData = True", "BinaryData = False", "voxels are text"),
        ("MET_SHORT", "MET_FLOAT_ARRAY", "MetaImage of arrays"),
        ("MET_SHORT", "DOE^JOHN", "a type that is not known"),
        ("NDims = 3", "NDims = 3\nElementToIntensityFunctionSlope = 2", "an intensity function"),
        ("= LOCAL", "= LIST", "several files"),
        ("= LOCAL", "= slice%03d.raw 1 3 1", "several files"),
        ("= LOCAL", "= /etc/DOE^JOHN", "outside its own folder"),
        ("= LOCAL", "= DOE^JOHN.raw", "not there"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0", "nine numbers"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 DOE^JOHN", "no three numbers"),
        ("CompressedData = False", "CompressedData = True\nHeaderSize = 5", "a header of their own"),
    ];
    let all =
        nrrd.map(|case| ("a.nrrd", NRRD, case)).into_iter().chain(meta.map(|case| ("a.mha", META, case)));
    for (name, whole, (old, new, words)) in all {
        assert!(whole.contains(old), "{old}");
        let message = refusal(open(name, whole.replacen(old, new, 1).as_bytes()));
        assert!(message.contains(words), "{new}: {message}");
        assert!(!message.contains("DOE"), "{message}");
    }
}

#[test]
fn a_text_header_that_claims_terabytes_is_refused_before_memory_is_asked_for() {
    for (name, whole) in [("a.nrrd", NRRD), ("a.mha", META)] {
        let huge = whole
            .replace("2 2 2", "9000 9000 9000")
            .replace("(1,0,0) (0,1,0) (0,0,1)", "(.1,0,0) (0,.1,0) (0,0,.1)");
        let huge = huge.replace("ElementSpacing = 1 1 1", "ElementSpacing = .1 .1 .1");
        assert!(refusal(open(name, huge.as_bytes())).contains("bytes of voxels where"), "{name}");
        let packed = huge
            .replace("encoding: raw", "encoding: gzip")
            .replace("CompressedData = False", "CompressedData = True");
        let packed = [packed.as_bytes().split_last_chunk::<16>().unwrap().0, &gz(&[0; 64])].concat();
        assert!(refusal(open(name, &packed)).contains("compressed, where"), "{name}");
        let endless = whole.replace("2 2 2", "18446744073709551615 2 2");
        assert!(refusal(open(name, endless.as_bytes())).contains("field of view"), "{name}");
    }
}

#[test]
fn a_file_of_each_format_cut_anywhere_is_refused() {
    for name in ["i16.nrrd", "gzip.nrrd", "i16.mha", "zlib.mha", "little.nii", "gzip.nii.gz"] {
        let whole = std::fs::read(fixtures().join(name)).unwrap();
        for length in (0..whole.len()).step_by(7) {
            assert!(open(name, &whole[..length]).is_err(), "{name} cut at {length}");
        }
    }
    // Half of a pair.
    for name in ["detached.nhdr", "detached.mhd", "analyze.hdr", "pair.hdr"] {
        let message = refusal(open(name, &std::fs::read(fixtures().join(name)).unwrap()));
        assert!(message.contains("beside it"), "{message}");
    }
}

#[test]
fn content_decides_what_a_file_is_and_its_name_is_told() {
    for (name, whole) in [("a.mha", NRRD), ("a.nii", META), ("a", NRRD)] {
        let scan = open(name, whole.as_bytes()).unwrap();
        assert!(scan.warnings.iter().any(|w| w.contains("read by content")), "{name}: {:?}", scan.warnings);
    }
    let text = refusal(open("a.nrrd", b"not a scan at all\n"));
    assert!(text.contains("no NRRD header"), "{text}");
}

#[test]
fn metaimage_says_its_modality_and_units_are_converted() {
    let ct = META.replacen("NDims", "Modality = MET_MOD_CT\nDistanceUnits = cm\nNDims", 1);
    let scan = open("a.mha", ct.as_bytes()).unwrap();
    assert_eq!((scan.modality, scan.spacing_mm), (Some(Modality::CT), [10.0; 3]));
    let micrometres =
        NRRD.replacen("type", "space units: \"um\" \"um\" \"um\"\ntype", 1).replace("1,0,0", "900,0,0");
    let scan = open("a.nrrd", micrometres.replace("0,1,0", "0,900,0").replace("0,0,1", "0,0,900").as_bytes())
        .unwrap();
    assert!(scan.spacing_mm.iter().all(|mm| (mm - 0.9).abs() < 1e-12), "{:?}", scan.spacing_mm);
}

#[test]
fn analyze_of_another_orientation_is_refused_and_named() {
    let mut header = std::fs::read(fixtures().join("analyze.hdr")).unwrap();
    for (orient, name) in [(1, "coronal"), (b'5', "sagittal flipped"), (77, "not defined")] {
        header[252] = orient;
        let message = refusal(open("a.hdr", &header));
        assert!(message.contains(name), "{message}");
    }
    let message = refusal(open("a.nii", &std::fs::read(fixtures().join("analyze.hdr")).unwrap()));
    assert!(message.contains("without its magic"), "{message}");
}

#[test]
fn nifti_2_beyond_what_nifti_1_can_say_is_refused_with_its_numbers() {
    let mut file = std::fs::read(fixtures().join("little.nii")).unwrap();
    file[24..32].copy_from_slice(&40_000i64.to_le_bytes());
    assert!(refusal(open("a.nii", &file)).contains("dim[1] of 40000"));
    file[24..32].copy_from_slice(&(-1i64).to_le_bytes());
    assert!(refusal(open("a.nii", &file)).contains("dim[1] of -1"));
    file[4] = b'x';
    assert!(refusal(open("a.nii", &file)).contains("NIfTI-2 header without its magic"));
}
