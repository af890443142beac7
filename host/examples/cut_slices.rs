//! From a scan's files to the slices of a view, without a backbone: what `examples/bench/dicom_reading.py` measures.
//!
//!     cargo run --release -p anymc3d-host --example cut_slices -- SCAN full|body|lungs SLICES SIZE THREADS

use anymc3d_host::scan::{Scan, slices};
use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, scan, region, count, size, threads] = args.as_slice() else {
        return Err("usage: cut_slices SCAN full|body|lungs SLICES SIZE THREADS".into());
    };
    let (count, size): (usize, usize) = (count.parse()?, size.parse()?);
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let region = match region.as_str() {
        "full" => Region::Full,
        "body" => Region::Body,
        "lungs" => Region::Lungs,
        other => return Err(format!("region {other}: expected full, body or lungs").into()),
    };
    let view = View {
        region,
        modality: Modality::CT,
        fit: Fit::Stretch,
        intensity: Intensity::Window { windows: vec![[-1000.0, 400.0]] },
        ..View::new("axial", Axis::Axial, count, [size, size])
    };
    let (scan, volume) = Scan::open(Path::new(scan))?.into_canonical();
    let stack = slices(&volume, &view, 1)?;
    // The same slices to the bit have the same digest.
    let mut hash = Sha256::new();
    stack.pixels.iter().for_each(|v| hash.update(v.to_le_bytes()));
    let pixels: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let mean = stack.pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / stack.pixels.len() as f64;
    println!("{:?} mean {mean:.6}, pixels {pixels}, files {}", stack.shape, scan.sha256);
    Ok(())
}
