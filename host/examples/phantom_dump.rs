//! Writes phantom cases as plain arrays, for looking at them and for the probes of
//! `examples/phantom_difficulty`: `phantom_dump TASK SEED FIRST COUNT DIR`.
//!
//! Each case gives `NAME.raw` (i16, first axis fastest; of several sequences `NAME_SEQUENCE.raw`), `NAME.mask`
//! (u8) where there is one, and a line of JSON on stdout.

use anymc3d_host::phantom;
use rayon::prelude::*;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, task, seed, first, count, dir] = args.as_slice() else {
        return Err("usage: phantom_dump TASK SEED FIRST COUNT DIR".into());
    };
    let (seed, first, count): (u64, u64, u64) = (seed.parse()?, first.parse()?, count.parse()?);
    std::fs::create_dir_all(dir)?;
    let lines: Vec<String> = (first..first + count)
        .into_par_iter()
        .map(|index| {
            let start = std::time::Instant::now();
            let case = phantom::generate(task, seed, index)?;
            let seconds = start.elapsed().as_secs_f64();
            for image in &case.images {
                let file = image.sequence.map_or(String::new(), |s| format!("_{s}"));
                let raw: Vec<u8> = image.voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(Path::new(dir).join(format!("{}{file}.raw", case.name)), raw)?;
            }
            if let Some(mask) = &case.mask {
                std::fs::write(Path::new(dir).join(format!("{}.mask", case.name)), mask)?;
            }
            let task = phantom::task(task)?;
            let findings: Vec<_> =
                case.findings.iter().map(|f| serde_json::json!([f.centre_mm, f.diameter_mm])).collect();
            let kinds: Vec<_> = case.findings.iter().filter_map(|f| f.kind).collect();
            let sequences: Vec<_> = case.images.iter().filter_map(|i| i.sequence).collect();
            Ok(serde_json::json!({
                "case": case.name, "shape": case.shape, "affine": case.affine, "label": case.class == 1,
                "class": task.classes[case.class], "sequences": sequences, "kinds": kinds,
                (task.findings): findings, "seconds": seconds,
            })
            .to_string())
        })
        .collect::<Result<_, Box<dyn Error + Send + Sync>>>()?;
    for line in lines {
        println!("{line}");
    }
    Ok(())
}
