//! `small_cohort DIR SCANS CORRUPT [CASES]`: a cheap task and scans for scripts that test batches.
//!
//! Writes DIR/probe.so with its weights (a head without an adapter, 5 slices of 70 × 56 pixels), DIR/scans with SCANS small
//! scans of which CORRUPT are cut short, evenly spread, and with CASES a manifest DIR/cases.csv of so many cases that share the
//! scans. The backbone is tests/fixtures/dinov2_registers.

use anymc3d_host::plugin::find::library_name;
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{edited_library, tiny_weights};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

const SHAPE: [usize; 3] = [24, 20, 10];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments.get(i).and_then(|text: &String| text.parse::<usize>().ok());
    let (Some(folder), Some(scans), Some(corrupt)) =
        (arguments.first().map(PathBuf::from), number(1), number(2))
    else {
        eprintln!("expected DIR SCANS CORRUPT [CASES]");
        std::process::exit(2);
    };
    fs::create_dir_all(folder.join("scans")).expect("a folder for the scans");
    let plugin = folder.join("probe.so");
    let small = [
        ("slices = 40", "slices = 5 "),
        ("size = [168, 168]", "size = [70 , 56 ]"),
        ("region = \"lungs\"", "region = \"body\" "),
        ("min_embed_dim = 384", "min_embed_dim = 48 "),
    ];
    // As built: this program lies in the examples of the same build.
    let built = std::env::current_exe().expect("its own path");
    let library = built.ancestors().nth(2).expect("target/PROFILE").join(library_name("mean_probe"));
    edited_library(&library, &small, &plugin);
    tiny_weights(&plugin, &folder.join("mean_probe.safetensors"), 4);
    let mut paths = Vec::new();
    for i in 0..scans {
        let path = folder.join(format!("scans/scan{i:04}.nii"));
        let voxels: Vec<i16> =
            (0..SHAPE.iter().product()).map(|v| (v * (i + 3) * 7919 % 1300) as i16 - 1000).collect();
        write_nifti_i16(&path, &voxels, SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).expect("a scan");
        if corrupt > 0 && (i * corrupt / scans) != ((i + 1) * corrupt / scans) {
            let bytes = fs::read(&path).expect("the scan");
            fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of it");
        }
        paths.push(path);
    }
    if let Some(cases) = number(3) {
        let mut table = std::io::BufWriter::new(fs::File::create(folder.join("cases.csv")).expect("a table"));
        writeln!(table, "case,bytes,image").expect("a header");
        for i in 0..cases {
            let path = paths[i % scans].strip_prefix(&folder).expect("a scan of the folder");
            writeln!(table, "case{i:06},9952,{}", path.display()).expect("a row");
        }
    }
}
