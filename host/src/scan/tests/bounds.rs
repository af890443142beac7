//! Grids that no scanner makes, and scans that take more memory than there is: each is its own error and names its file.

use super::*;
use crate::memory::MemoryBudget;
use crate::scan::{GeometryLimits, ReadLimits, slices_within};

fn limits(geometry: GeometryLimits, bytes: usize) -> ReadLimits {
    ReadLimits { geometry, ..ReadLimits::with_room(MemoryBudget::of(bytes)) }
}

fn scanner() -> ReadLimits {
    limits(GeometryLimits::SCANNER, 1 << 30)
}

/// Opens bytes that were written to `scan.nii`.
fn open_within(bytes: &[u8], limits: &ReadLimits) -> Result<Scan, VolumeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.nii");
    std::fs::write(&path, bytes).unwrap();
    Scan::open_within(&path, limits)
}

/// The form that a file's grid is taken from.
#[derive(Clone, Copy, Debug)]
enum Form {
    Sform,
    Qform,
    Pixdim,
}

/// A file whose steps along the three axes are `mm` by one of its forms.
fn stepping(form: Form, mm: [f32; 3]) -> File {
    let file = File::new();
    match form {
        Form::Sform => file.f32_at(280, mm[0]).f32_at(300, mm[1]).f32_at(320, mm[2]),
        Form::Qform | Form::Pixdim => {
            let code = i16::from(matches!(form, Form::Qform));
            let file = file.i16_at(254, 0).i16_at(252, code);
            file.f32_at(80, mm[0]).f32_at(84, mm[1]).f32_at(88, mm[2])
        }
    }
}

#[test]
fn steps_that_no_scanner_makes_are_refused_by_every_form_with_the_bounds() {
    let tiny = [1e-12f32, 1e-20, 1e-7, 1e-40, f32::from_bits(1), f32::MIN_POSITIVE, 0.009];
    let large = [101.0, 900.0, 1e12, 3e38];
    for form in [Form::Sform, Form::Qform, Form::Pixdim] {
        for step in tiny.into_iter().chain(large) {
            for axis in 0..3 {
                let mut mm = [1.0f32; 3];
                mm[axis] = step;
                let message = refusal(open_within(&stepping(form, mm).bytes(), &scanner()));
                assert!(message.contains("scan.nii: found"), "{form:?} {step:e}: {message}");
                // A subnormal step has no direction left, and may be told as singular.
                let told = message.contains("0.01 to 100 mm") || message.contains("singular");
                assert!(told, "{form:?} {step:e}: {message}");
            }
        }
    }
}

#[test]
fn steps_at_the_bounds_are_read_and_the_first_beyond_is_not() {
    for form in [Form::Sform, Form::Qform, Form::Pixdim] {
        for mm in [[0.01f32, 1.0, 1.0], [0.01, 10.0, 10.0], [100.0, 100.0, 1.0], [0.5, 0.5, 5.0]] {
            let read = open_within(&stepping(form, mm).bytes(), &scanner());
            assert!(read.is_ok(), "{form:?} {mm:?}: {:?}", read.err().map(|e| e.to_string()));
        }
        let message = refusal(open_within(&stepping(form, [0.01, 10.1, 1.0]).bytes(), &scanner()));
        assert!(message.contains("more than 1000 times"), "{message}");
    }
}

#[test]
fn a_field_of_view_above_five_metres_is_refused() {
    let file = stepping(Form::Sform, [50.0, 1.0, 1.0]).i16_at(42, 101).i16_at(44, 1).i16_at(46, 1);
    let file = File { voxels: vec![1; 202], ..file };
    let message = refusal(open_within(&file.bytes(), &scanner()));
    assert!(message.contains("field of view of 5050") && message.contains("at most 5000 mm"), "{message}");
    assert!(open_within(&file.i16_at(42, 100).bytes(), &scanner()).is_ok());
}

#[test]
fn axes_that_almost_lie_on_each_other_are_refused() {
    for lean in [2.0f32, 100.0, 1e6] {
        // The second axis leans into the first.
        let length = (1.0 + lean * lean).sqrt();
        let file = File::new().f32_at(284, lean / length).f32_at(300, 1.0 / length);
        let message = refusal(open_within(&file.bytes(), &scanner()));
        let told = message.contains("off a right angle") || message.contains("singular");
        assert!(told && message.contains("scan.nii"), "{lean}: {message}");
    }
    // A gantry's tilt of 30 degrees.
    assert!(open_within(&File::new().f32_at(304, 0.577).bytes(), &scanner()).is_ok());
}

#[test]
fn numbers_that_are_none_are_refused_in_every_form() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [280, 292, 300, 324] {
            let message = refusal(open_within(&File::new().f32_at(at, bad).bytes(), &scanner()));
            assert!(message.contains("scan.nii") && message.contains("singular sform"), "{message}");
        }
        for at in [256, 268] {
            let file = stepping(Form::Qform, [1.0; 3]).f32_at(at, bad);
            assert!(refusal(open_within(&file.bytes(), &scanner())).contains("singular qform"));
        }
        for (form, name) in [(Form::Qform, "singular qform"), (Form::Pixdim, "singular pixdim")] {
            let message = refusal(open_within(&stepping(form, [bad, 1.0, 1.0]).bytes(), &scanner()));
            assert!(message.contains("scan.nii") && message.contains(name), "{message}");
        }
    }
    let scan = open_within(&stepping(Form::Pixdim, [0.0, 1.0, 1.0]).bytes(), &scanner()).unwrap();
    assert!(scan.warnings.iter().any(|w| w.contains("pixdim[1]") && w.contains("taken as 1")));
}

#[test]
fn a_micro_ct_is_read_where_it_was_asked_for() {
    for step in [0.0005f32, 0.009] {
        let file = stepping(Form::Sform, [step; 3]);
        let message = refusal(open_within(&file.bytes(), &scanner()));
        assert!(message.contains("--micro-ct"), "{message}");
        assert!(open_within(&file.bytes(), &limits(GeometryLimits::MICRO_CT, 1 << 30)).is_ok());
    }
    let message = refusal(open_within(
        &stepping(Form::Sform, [1e-12; 3]).bytes(),
        &limits(GeometryLimits::MICRO_CT, 1 << 30),
    ));
    assert!(message.contains("0.0001 to 100 mm") && !message.contains("--micro-ct"), "{message}");
}

#[test]
fn a_scan_that_takes_more_than_there_is_is_refused_with_its_sizes_before_it_is_read() {
    // 200 × 200 × 100 of a byte, in a file whose voxels are not even written.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.nii");
    let header = File::of(false, 2, 8, Vec::new()).i16_at(42, 200).i16_at(44, 200).i16_at(46, 100);
    std::fs::write(&path, header.bytes()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(352 + 4_000_000).unwrap();
    // The file, and its voxels twice as f32: 36 MB.
    let message = refusal(Scan::open_within(&path, &limits(GeometryLimits::SCANNER, 35_000_000)));
    for words in ["large.nii", "200 × 200 × 100 voxels of 1 bytes", "35 MiB to be read", "at most 33 MiB"] {
        assert!(message.contains(words), "`{words}` is missing: {message}");
    }
    assert!(Scan::open_within(&path, &limits(GeometryLimits::SCANNER, 37_000_000)).is_ok());
}

#[test]
fn slices_that_take_more_than_there_is_are_refused_with_their_sizes() {
    let scan =
        Scan::from_voxels("small.nii", noise(24), [2, 3, 4], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    let view = view(Axis::Axial, 64, [512, 512], Fit::Square);
    let cut = |bytes| slices_within(&scan.canonical(), &view, 14, MemoryBudget::of(bytes));
    // 64 × 518 × 518 twice as f32.
    let message = cut(100 << 20).unwrap_err().to_string();
    for words in ["small.nii", "64 slices of 518 × 518", "at most 100 MiB"] {
        assert!(message.contains(words), "`{words}` is missing: {message}");
    }
    assert!(cut(150 << 20).is_ok());
}

#[test]
fn the_regions_of_noise_are_refused_where_their_pieces_do_not_fit() {
    let voxels: Vec<f32> = (0..64 * 64 * 16).map(|i| if i % 2 == 0 { 1000.0 } else { -1000.0 }).collect();
    let scan =
        Scan::from_voxels("noise.nii", voxels, [64, 64, 16], Affine::aligned([1.0; 3], [0.0; 3])).unwrap();
    for region in [Region::Body, Region::Lungs] {
        let view = View { region, modality: Modality::CT, ..view(Axis::Axial, 2, [14, 14], Fit::Square) };
        let message =
            slices_within(&scan.canonical(), &view, 14, MemoryBudget::of(1 << 20)).unwrap_err().to_string();
        assert!(message.contains("noise.nii") && message.contains("pieces"), "{message}");
        assert!(slices_within(&scan.canonical(), &view, 14, MemoryBudget::of(1 << 28)).is_ok());
    }
}

#[test]
fn a_header_that_lies_behind_much_of_a_compressed_stream_is_held_against_the_memory_too() {
    // 8 MiB of voxels, 40 MiB with what reading them takes. The stream begins with members that hold nothing.
    let file = File::new().i16_at(42, 256).i16_at(44, 256).i16_at(46, 64);
    let zipped = gz(&File { voxels: vec![0; 8 << 20], ..file }.bytes());
    let nothing = gz(&[]);
    let bytes = [nothing.repeat((1 << 16) / nothing.len() + 1), zipped].concat();
    let message = refusal(open_within(&bytes, &limits(GeometryLimits::SCANNER, 16 << 20)));
    assert!(message.contains("256 × 256 × 64 voxels"), "{message}");
    assert!(open_within(&bytes, &limits(GeometryLimits::SCANNER, 64 << 20)).is_ok());
}
