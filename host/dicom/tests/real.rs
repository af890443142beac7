//! Real series that lie outside of the repository: skipped, and said so, where they are absent.

mod common;

use std::fs;
use std::path::Path;

use anymc3d_dicom::{Limits, Orientation, Request, Scan, Volume, choose, read_volume, scan};
use common::{ct_slice, data, fixtures};

fn chosen(found: &Scan, study: usize) -> Volume {
    let choice = choose(&found.studies[study], &Request::default()).unwrap();
    read_volume(found, &found.studies[study].series[choice.series], choice.stack, &Limits::default()).unwrap()
}

/// Trilinear sample at RAS mm, on a grid without rotation.
fn sample(volume: &Volume, ras: [f64; 3]) -> f64 {
    let m = &volume.affine.0;
    let index: [f64; 3] = std::array::from_fn(|a| (ras[a] - m[a][3]) / m[a][a]);
    let low = index.map(f64::floor);
    let mut value = 0.0;
    for corner in 0..8_usize {
        let (mut weight, mut at) = (1.0, [0; 3]);
        for a in 0..3 {
            let up = corner >> a & 1;
            let w = index[a] - low[a];
            weight *= if up == 1 { w } else { 1.0 - w };
            at[a] = (low[a] as usize + up).min(volume.dims[a] - 1);
        }
        value += weight * f64::from(volume.voxels[(at[2] * volume.dims[1] + at[1]) * volume.dims[0] + at[0]]);
    }
    value
}

/// Spacing is 2 mm, though the slices are 3 mm thick.
fn check_example(volume: &Volume) {
    assert_eq!(volume.dims, [512, 512, 20]);
    let expected = [
        [-0.9765625, 0.0, 0.0, 249.51171875],
        [0.0, -0.9765625, 0.0, 437.51171875],
        [0.0, 0.0, 2.0, -804.5],
        [0.0, 0.0, 0.0, 1.0],
    ];
    assert_eq!(volume.affine.0, expected);
    let low = volume.voxels.iter().copied().fold(f32::INFINITY, f32::min);
    let high = volume.voxels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!((low, high), (-1024.0, 1839.0));
}

#[test]
fn the_example_ct_is_the_same_as_folder_zip_and_shuffled_among_other_files() {
    let Some(folder) = data("example_ct_dicom") else { return };
    let limits = Limits::default();
    let found = scan(&folder, &limits).unwrap();
    let volume = chosen(&found, 0);
    check_example(&volume);

    let mixed = tempfile::tempdir().unwrap();
    let deep = mixed.path().join("x/y");
    fs::create_dir_all(&deep).unwrap();
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let zip_path = mixed.path().join("export.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&zip_path).unwrap());
    for (i, file) in files.iter().enumerate() {
        let name = format!("{:03}.bin", i * 7 % 20);
        fs::copy(file, if i % 2 == 0 { deep.join(&name) } else { mixed.path().join(&name) }).unwrap();
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::copy(&mut fs::File::open(file).unwrap(), &mut zip).unwrap();
    }
    zip.finish().unwrap();
    let zipped = scan(&zip_path, &limits).unwrap();
    assert_eq!(chosen(&zipped, 0).voxels, volume.voxels);

    fs::write(mixed.path().join("notes.txt"), "text").unwrap();
    fs::copy(fixtures().join("highdicom/sr_document.dcm"), mixed.path().join("sr")).unwrap();
    fs::copy(fixtures().join("dcm_qa_ts/1.dcm"), deep.join("mr")).unwrap();
    (0..3).for_each(|n| ct_slice(n, f64::from(n)).write(&deep.join(format!("other{n}"))));
    let found = scan(mixed.path(), &limits).unwrap();
    let same = (0..found.studies.len())
        .filter(|i| !found.studies[*i].series.is_empty())
        .map(|i| chosen(&found, i))
        .filter(|v| v.dims == volume.dims)
        .collect::<Vec<_>>();
    assert_eq!(same.len(), 1);
    assert_eq!(same[0].voxels, volume.voxels);
    assert_eq!(same[0].affine, volume.affine);
}

#[test]
fn the_golden_samples_of_the_example_ct_hold() {
    let (Some(folder), Some(golden)) = (data("example_ct_dicom"), data("../fixtures/geometry.json")) else {
        return;
    };
    let golden: serde_json::Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let volume = chosen(&scan(&folder, &Limits::default()).unwrap(), 0);
    let samples = golden["example_ct_dicom"]["samples"].as_array().unwrap();
    assert!(samples.len() > 10);
    for s in samples {
        let ras = [0, 1, 2].map(|i| s["ras_mm"][i].as_f64().unwrap());
        let (found, expected) = (sample(&volume, ras), s["value"].as_f64().unwrap());
        assert!((found - expected).abs() < 0.02, "{ras:?}: {found}, expected {expected}");
    }
}

#[test]
fn a_tilted_head_ct_is_straightened_and_told_with_its_numbers() {
    let Some(folder) = data("dicom/dcm_qa_ct/GE") else { return };
    let found = scan(&folder, &Limits::default()).unwrap();
    let series = &found.studies[0].series[0];
    let geometry = series.stacks[0].geometry.as_ref().unwrap();
    assert_eq!((geometry.slices, geometry.straight, geometry.orientation), (28, false, Orientation::Axial));
    assert!((geometry.tilt_degrees.abs() - 18.5).abs() < 0.1);
    let volume = chosen(&found, 0);
    assert!(volume.warnings[0].contains("1.08 to 7.00 mm"), "{:?}", volume.warnings);
    // What a frame shows is where the grid says: the frames' own pixels come back, up to the interpolation that the
    // frames between two planes of the grid go through.
    let [columns, rows] = volume.frame_size();
    let back = volume.onto_frames(&volume.voxels);
    assert_eq!(back.len(), columns * rows * 28);
    let first = anymc3d_dicom::read_file(&volume.frames[0].file, &Limits::default()).unwrap();
    let padding = volume.voxels.iter().copied().fold(f32::INFINITY, f32::min);
    let (mut worst, mut n) = (0.0_f32, 0);
    // Along a column the shift of the first frame is a fraction of a pixel: compare where the image is smooth.
    for j in 2..rows - 2 {
        for i in 2..columns - 2 {
            let at = j * columns + i;
            let near = [at - columns, at, at + columns].map(|k| first.values[k].max(padding));
            if near.iter().all(|v| (v - near[1]).abs() < 3.0 && *v > padding + 50.0) {
                worst = worst.max((back[at] - near[1]).abs());
                n += 1;
            }
        }
    }
    assert!(n > 1000 && worst < 12.0, "{worst} HU over {n} pixels");
}

#[test]
fn enhanced_mr_gives_a_stack_per_time_point_or_image_type() {
    let Some(folder) = data("dicom/dcm_qa_enh/In") else { return };
    let found = scan(&folder, &Limits::default()).unwrap();
    let limits = Limits::default();
    for study in &found.studies {
        let series = &study.series[0];
        for (n, stack) in series.stacks.iter().enumerate() {
            let volume = read_volume(&found, series, n, &limits).unwrap();
            assert_eq!(volume.frames.len(), stack.slices());
            let direct = read_file_frames(&volume);
            assert_eq!(volume.voxels, direct, "series {:?} stack {n}", series.number);
        }
        match series.number {
            Some(6) => assert_eq!(series.stacks.len(), 4),
            Some(801) => assert!(series.stacks[0].label.ends_with("FIELD_MAP")),
            other => panic!("{other:?}"),
        }
    }
}

/// The frames that a volume says it comes from, read one by one without any series.
fn read_file_frames(volume: &Volume) -> Vec<f32> {
    let [columns, rows] = volume.frame_size();
    let read = |file: &Path| anymc3d_dicom::read_file(file, &Limits::default()).unwrap();
    let size = rows * columns;
    volume
        .frames
        .iter()
        .flat_map(|f| {
            let at = (f.frame_number as usize - 1) * size;
            read(&f.file).values[at..at + size].to_vec()
        })
        .collect()
}

/// The pixels of each frame are overwritten by one coordinate of their place, in fiftieths of a millimetre.
#[test]
fn a_phantom_of_positions_on_the_tilted_head_ct_lies_where_its_values_say() {
    let Some(folder) = data("dicom/dcm_qa_ct/GE") else { return };
    for axis in 0..3 {
        let phantom = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let text = |tag: [u8; 4]| {
                let at = bytes.windows(4).position(|w| w == tag).unwrap() + 8;
                let length = usize::from(bytes[at - 2]) + usize::from(bytes[at - 1]) * 256;
                let text = String::from_utf8_lossy(&bytes[at..at + length]).into_owned();
                text.split('\\').map(|p| p.trim().parse::<f64>().unwrap()).collect::<Vec<f64>>()
            };
            let position = text([0x20, 0, 0x32, 0]);
            let direction = text([0x20, 0, 0x37, 0]);
            let spacing = text([0x28, 0, 0x30, 0]);
            let start = bytes.len() - 512 * 512 * 2;
            for j in 0..512_usize {
                for i in 0..512_usize {
                    let lps = position[axis]
                        + direction[axis] * spacing[1] * i as f64
                        + direction[3 + axis] * spacing[0] * j as f64;
                    let stored = (lps * 50.0).round() as i16;
                    let at = start + (j * 512 + i) * 2;
                    bytes[at..at + 2].copy_from_slice(&stored.to_le_bytes());
                }
            }
            fs::write(phantom.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let volume = chosen(&scan(phantom.path(), &Limits::default()).unwrap(), 0);
        let [columns, rows, _] = volume.dims;
        let lowest = volume.voxels.iter().copied().fold(f32::INFINITY, f32::min);
        let intercept = phantom_intercept(&volume);
        let (mut worst, mut covered) = (0.0_f64, 0);
        for (n, value) in volume.voxels.iter().enumerate().filter(|(_, v)| **v > lowest) {
            let index = [n % columns, n / columns % rows, n / columns / rows].map(|v| v as f64);
            let lps = volume.affine.apply(index)[axis] * if axis < 2 { -1.0 } else { 1.0 };
            worst = worst.max(((f64::from(*value) - intercept) / 50.0 - lps).abs());
            covered += 1;
        }
        assert!(worst < 0.5, "axis {axis}: {worst} mm");
        assert!(covered * 10 > volume.voxels.len() * 7, "axis {axis}: {covered} of {}", volume.voxels.len());
    }
}

/// Value of a stored zero: the first frame's value at its first pixel, less what the phantom stored there.
fn phantom_intercept(volume: &Volume) -> f64 {
    let whole = anymc3d_dicom::read_file(&volume.frames[0].file, &Limits::default()).unwrap();
    let bytes = fs::read(&volume.frames[0].file).unwrap();
    let start = bytes.len() - 512 * 512 * 2;
    f64::from(whole.values[0]) - f64::from(i16::from_le_bytes([bytes[start], bytes[start + 1]]))
}
