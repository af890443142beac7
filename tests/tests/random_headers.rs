//! A hundred thousand headers of nonsense through the reader that `host run` uses, and through the slicer: none ends
//! the process, none takes more memory than the cap, every refusal names its file.

use anymc3d_host::memory::MemoryBudget;
use anymc3d_host::scan::{GeometryLimits, ReadLimits, Scan, slices_within};
use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};
use anymc3d_tests::allocations::{Counting, Draw, begin, most_since};
use std::path::Path;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEADERS: usize = 100_000;
/// What a scan and its slices may take.
const CAP: usize = 4 << 20;
/// Beside it, of the machinery: paths, messages, the decoder's window.
const BESIDE: usize = 1 << 20;

/// A number as damaged headers have it: any bits, or the ones that hurt.
fn float(draw: &mut Draw) -> f32 {
    const HURT: [f32; 16] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-12,
        1e-20,
        1e-7,
        1e-40,
        0.01,
        100.0,
        1e12,
        3e38,
        -3e38,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ];
    match draw.below(3) {
        0 => f32::from_bits(draw.bits() as u32),
        1 => draw.of(&HURT),
        _ => (draw.below(4000) as f32 - 1000.0) / 500.0,
    }
}

/// A file: mostly a header that is sound but for a few fields, so that every depth of the reader is reached.
fn file(draw: &mut Draw, folder: &Path, n: usize) -> std::path::PathBuf {
    let mut h = vec![0u8; 352];
    let big = draw.below(4) == 0;
    let mut put = |at: usize, bytes: &[u8], reversed: bool| {
        let mut bytes = bytes.to_vec();
        if reversed {
            bytes.reverse();
        }
        h[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    put(0, &348i32.to_le_bytes(), big);
    let small = draw.below(3) > 0;
    let mut dims = [3i16, 1, 1, 1, 1, 1, 1, 1];
    for d in &mut dims[1..4] {
        *d = if small {
            draw.below(10) as i16 + 1
        } else {
            draw.of(&[0i16, 1, 2, 64, 512, 32767, -1, -32768])
        };
    }
    if draw.below(20) == 0 {
        dims[0] = draw.bits() as i16;
        dims[4] = draw.bits() as i16;
    }
    for (i, d) in dims.into_iter().enumerate() {
        put(40 + 2 * i, &d.to_le_bytes(), big);
    }
    let kind = if draw.below(16) == 0 {
        draw.bits() as i16
    } else {
        draw.of(&[2i16, 4, 8, 16, 64, 256, 512, 768, 1024, 1280, 1536, 32, 128])
    };
    put(70, &kind.to_le_bytes(), big);
    let sound = draw.below(3) > 0;
    for at in [76, 80, 84, 88] {
        let v = if sound { 1.0 + draw.below(100) as f32 / 20.0 } else { float(draw) };
        put(at, &v.to_le_bytes(), big);
    }
    let offset = if draw.below(8) == 0 { float(draw) * 1e6 } else { 352.0 };
    put(108, &offset.to_le_bytes(), big);
    put(112, &float(draw).to_le_bytes(), big);
    put(116, &float(draw).to_le_bytes(), big);
    let unit = draw.of(&[0u8, 1, 2, 2, 2, 3, 10, 255]);
    put(123, &[unit], false);
    for at in [252, 254] {
        let code = draw.of(&[0i16, 0, 1, 2, 3, 4, -1, 30000]);
        put(at, &code.to_le_bytes(), big);
    }
    let forms = draw.below(2) == 0;
    for i in 0..18 {
        let at = 256 + 4 * i;
        let diagonal = [6, 11, 16].contains(&i);
        let v = match (forms, diagonal) {
            (false, true) => 0.5 + draw.below(100) as f32 / 10.0,
            (false, false) => draw.below(100) as f32 / 1000.0,
            _ => float(draw),
        };
        put(at, &v.to_le_bytes(), big);
    }
    put(344, if draw.below(50) == 0 { b"ni1\0" } else { b"n+1\0" }, false);
    // Voxels: all of them, some, or none.
    let wanted: usize = dims[1..4].iter().map(|&d| usize::from(d.unsigned_abs())).product::<usize>();
    let bytes = match draw.below(4) {
        0 => draw.below(64) as usize,
        _ => wanted.saturating_mul(8).min(10 * 10 * 10 * 8),
    };
    h.extend((0..bytes).map(|i| ((i as u64 * 0x9e37_79b9) >> 5) as u8));
    let path = folder.join(format!("scan{}.nii", n % 16));
    std::fs::write(&path, h).unwrap();
    path
}

fn view(draw: &mut Draw) -> View {
    View {
        name: "v".into(),
        modality: Modality::Any,
        axis: draw.of(&[Axis::Axial, Axis::Coronal, Axis::Sagittal, Axis::Native]),
        slices: None,
        slice_spacing_mm: Some(draw.of(&[2.0, 20.0])),
        size: [28, 28],
        fit: draw.of(&[Fit::Square, Fit::Stretch, Fit::Spacing]),
        spacing_mm: Some(draw.of(&[0.05, 2.0])),
        region: draw.of(&[Region::Full, Region::Body, Region::Lungs]),
        intensity: draw
            .of(&[0, 1])
            .eq(&0)
            .then_some(())
            .map_or(Intensity::Percentile { low: 0.5, high: 99.5, nonzero: false }, |()| Intensity::Window {
                windows: vec![[-1000.0, 1000.0]],
            }),
        ..View::new("v", Axis::Axial, 1, [1, 1])
    }
}

#[test]
fn a_hundred_thousand_random_headers_end_nothing_and_stay_below_the_cap() {
    // A folder in memory where there is one: the files are written and read a hundred thousand times.
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let mut draw = Draw(0x5eed_cafe_f00d_1234);
    let limits = |geometry| ReadLimits { geometry, ..ReadLimits::with_room(MemoryBudget::of(CAP)) };
    let (mut read, mut cut) = (0, 0);
    for n in 0..HEADERS {
        let path = file(&mut draw, folder.path(), n);
        let view = view(&mut draw);
        let geometry = if n % 8 == 0 { GeometryLimits::MICRO_CT } else { GeometryLimits::SCANNER };
        let before = begin();
        let answer = Scan::open_within(&path, &limits(geometry)).and_then(|scan| {
            read += 1;
            // The reader takes every header, the slicer each fourth that was read.
            if read % 4 > 0 {
                return Ok(());
            }
            let volume = scan.try_canonical()?;
            let taken = 2 * std::mem::size_of_val(volume.voxels.as_slice());
            slices_within(&volume, &view, 14, MemoryBudget::of(CAP).less(taken))?;
            cut += 1;
            Ok(())
        });
        let most = most_since(before);
        assert!(most <= CAP + BESIDE, "header {n}: {most} bytes, {}", path.display());
        match answer {
            Ok(()) => {}
            Err(e) => {
                let message = e.to_string();
                let named = message.starts_with(&path.display().to_string());
                assert!(named && !message.contains('\n'), "header {n}: {message}");
            }
        }
    }
    println!("{HEADERS} headers: {read} read, {cut} cut into slices");
    // The draw reaches all depths.
    assert!(read > HEADERS / 20 && cut > HEADERS / 400 && read < HEADERS, "{read} {cut}");
}
