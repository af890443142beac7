//! Lists the studies and series of a path, what is left out and why, and reads each stack; with `--headers` it reads none.

use std::path::Path;
use std::time::Instant;

use anymc3d_dicom::{Limits, read_volume, scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("list_series PATH [--headers]")?;
    let headers_alone = std::env::args_os().nth(2).is_some_and(|option| option == "--headers");
    let limits = Limits::default();
    let start = Instant::now();
    let found = scan(Path::new(&path), &limits)?;
    println!("{} instances, headers in {:.3} s", found.instances, start.elapsed().as_secs_f64());
    println!("other files: {:?}", found.other_files);
    for error in &found.unreadable {
        println!("unreadable: {error}");
    }
    for study in &found.studies {
        println!("study {}", study.uid);
        for series in &study.series {
            println!(
                "  {:?} {} {:?} {:?} {:?} contrast {:?} sequence {:?}",
                series.number,
                series.modality,
                series.description,
                series.body_part,
                series.orientation,
                series.contrast,
                series.sequence
            );
            series.oddities.iter().for_each(|o| println!("    odd: {o}"));
            let read = if headers_alone { 0 } else { series.stacks.len() };
            for (n, stack) in series.stacks.iter().enumerate().take(read) {
                let start = Instant::now();
                match read_volume(&found, series, n, &limits) {
                    Ok(v) => println!(
                        "    stack {n} '{}': {:?} spacing {:.3?} {:?} in {:.3} s; {:?}",
                        stack.label,
                        v.dims,
                        v.spacing_mm,
                        v.affine.0,
                        start.elapsed().as_secs_f64(),
                        v.warnings
                    ),
                    Err(e) => println!(
                        "    stack {n} '{}' ({} slices): {}: {e}",
                        stack.label,
                        stack.slices(),
                        e.kind
                    ),
                }
            }
        }
        study.left_out.iter().for_each(|l| println!("  left out: {l:?}"));
    }
    Ok(())
}
