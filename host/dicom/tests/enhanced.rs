//! Enhanced multi-frame objects: positions and rescale from functional groups.

mod common;

use anymc3d_dicom::{ErrorKind, Limits, Scan, Volume, read_volume, scan};
use common::{DataSet, ct_slice, folder};

/// Where frame `n` of `count` lies: not in the order of the frames.
fn place(n: usize, count: usize) -> f64 {
    ((n * 2 + 1) % count) as f64 * 3.0
}

fn rescale(slope: &str, intercept: &str) -> DataSet {
    DataSet::default().set(0x0028_1053, "DS", slope).set(0x0028_1052, "DS", intercept)
}

/// An enhanced CT of five frames of 2 × 2; each pixel is 10 × frame + pixel. `own` adds groups to each frame.
fn enhanced(own: impl Fn(usize, DataSet) -> DataSet, shared: impl Fn(DataSet) -> DataSet) -> DataSet {
    let frames: Vec<DataSet> = (0..5)
        .map(|n| {
            let position = DataSet::default().set(0x0020_0032, "DS", format!("0\\0\\{}", place(n, 5)));
            own(n, DataSet::default().items(0x0020_9113, &[position]))
        })
        .collect();
    let orientation = DataSet::default().set(0x0020_0037, "DS", "1\\0\\0\\0\\1\\0");
    let measures = DataSet::default().set(0x0028_0030, "DS", "0.5\\0.7");
    let common = DataSet::default().items(0x0020_9116, &[orientation]).items(0x0028_9110, &[measures]);
    let pixels: Vec<u8> =
        (0..5_u16).flat_map(|n| (0..4).flat_map(move |i| (10 * n + i).to_le_bytes())).collect();
    ct_slice(0, 0.0)
        .set(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.2.1")
        .without(0x0020_0032)
        .without(0x0020_0037)
        .without(0x0028_0030)
        .without(0x0028_1052)
        .without(0x0028_1053)
        .set(0x0028_0008, "IS", "5")
        .u16(0x0028_0010, 2)
        .u16(0x0028_0011, 2)
        .items(0x5200_9229, &[shared(common)])
        .items(0x5200_9230, &frames)
        .set(0x7FE0_0010, "OW", pixels)
}

fn read(set: DataSet) -> Result<Volume, anymc3d_dicom::DicomError> {
    let folder = folder(&[set]);
    let found: Scan = scan(folder.path(), &Limits::default())?;
    if let Some(error) = found.unreadable.first() {
        return Err(error.clone());
    }
    read_volume(&found, &found.studies[0].series[0], 0, &Limits::default())
}

#[test]
fn frames_are_ordered_by_their_own_positions_and_each_has_its_rescale() {
    let own = |n: usize, set: DataSet| set.items(0x0028_9145, &[rescale(&format!("{}", n + 1), "-5")]);
    let volume = read(enhanced(own, |s| s)).unwrap();
    assert_eq!(volume.dims, [2, 2, 5]);
    assert_eq!(volume.spacing_mm, [0.7, 0.5, 3.0]);
    let mut order: Vec<usize> = (0..5).collect();
    order.sort_by(|a, b| place(*a, 5).total_cmp(&place(*b, 5)));
    let numbers: Vec<usize> = volume.frames.iter().map(|f| f.frame_number as usize - 1).collect();
    assert_eq!(numbers, order);
    for (slice, n) in volume.voxels.chunks(4).zip(order) {
        assert_eq!(slice[3], ((10 * n + 3) * (n + 1)) as f32 - 5.0);
    }
}

#[test]
fn a_shared_rescale_holds_for_all_and_one_at_the_top_where_groups_have_none() {
    let shared = |set: DataSet| set.items(0x0028_9145, &[rescale("2", "1")]);
    assert_eq!(read(enhanced(|_, s| s, shared)).unwrap().voxels[0] % 2.0, 1.0);
    let top = enhanced(|_, s| s, |s| s).set(0x0028_1053, "DS", "2").set(0x0028_1052, "DS", "1");
    assert_eq!(read(top).unwrap().voxels[0] % 2.0, 1.0);
}

#[test]
fn a_rescale_on_some_frames_only_is_refused() {
    let own =
        |n: usize, set: DataSet| if n == 3 { set } else { set.items(0x0028_9145, &[rescale("2", "1")]) };
    let error = read(enhanced(own, |s| s)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRescale);
    assert!(error.to_string().contains("1 of 5 frames"), "{error}");
}

#[test]
fn groups_for_another_number_of_frames_are_refused() {
    let error = read(enhanced(|_, s| s, |s| s).set(0x0028_0008, "IS", "4")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
}

#[test]
fn frames_without_positions_of_their_own_are_no_volume() {
    let pixels = vec![0; 5 * 12 * 2];
    let error =
        read(ct_slice(0, 0.0).set(0x0028_0008, "IS", "5").set(0x7FE0_0010, "OW", pixels)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoPosition);
}

/// Every way in which rows and columns can lie along the axes of the patient, slices in both file orders.
#[test]
fn a_voxel_lies_where_its_value_says_in_every_orientation() {
    let axis = |a: usize, sign: f64| std::array::from_fn::<f64, 3, _>(|i| if i == a { sign } else { 0.0 });
    let mut seen = 0;
    for (r, c) in (0..9).map(|n| (n / 3, n % 3)).filter(|(r, c)| r != c) {
        for signs in 0..8 {
            let sign = |bit: usize| if signs >> bit & 1 == 1 { -1.0 } else { 1.0 };
            let (row, column, step) = (axis(r, sign(0)), axis(c, sign(1)), axis(3 - r - c, sign(2)));
            let at = |i: usize, j: usize, k: usize| -> [f64; 3] {
                let (i, j, k) = (i as f64, j as f64, k as f64);
                std::array::from_fn(|a| 50.0 + row[a] * 2.0 * i + column[a] * 3.0 * j + step[a] * 5.0 * k)
            };
            let value = |p: [f64; 3]| p[0] + 100.0 * p[1] + 10_000.0 * p[2];
            let text = |v: &[f64]| v.iter().map(f64::to_string).collect::<Vec<_>>().join("\\");
            let files: Vec<DataSet> = (0..4)
                .map(|k| {
                    let pixels = (0..12).flat_map(|n| (value(at(n % 4, n / 4, k)) as u32).to_le_bytes());
                    ct_slice(k as u16, k as f64)
                        .set(0x0020_0032, "DS", text(&at(0, 0, k)))
                        .set(0x0020_0037, "DS", text(&[row, column].concat()))
                        .set(0x0028_0030, "DS", "3\\2")
                        .set(0x0028_1052, "DS", "0")
                        .u16(0x0028_0100, 32)
                        .u16(0x0028_0101, 32)
                        .u16(0x0028_0102, 31)
                        .set(0x7FE0_0010, "OW", pixels.collect::<Vec<u8>>())
                })
                .collect();
            let folder = folder(&files);
            let found = scan(folder.path(), &Limits::default()).unwrap();
            let volume = read_volume(&found, &found.studies[0].series[0], 0, &Limits::default()).unwrap();
            for (n, v) in volume.voxels.iter().enumerate() {
                let [x, y, z] = volume.affine.apply([n % 4, n / 4 % 3, n / 12].map(|v| v as f64));
                assert_eq!(f64::from(*v), value([-x, -y, z]), "rows along {row:?}, columns along {column:?}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 48);
}
