//! Writes phantom cases as plain arrays, for looking at them and for the probes of
//! `examples/phantom_difficulty`: `phantom_dump TASK SEED FIRST COUNT DIR`.
//!
//! Each case gives `NAME.raw` (i16 HU, first axis fastest), `NAME.mask` (u8) and a line of JSON on stdout.

use anymc3d_host::learn::phantom;
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
            let raw: Vec<u8> = case.voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(Path::new(dir).join(format!("{}.raw", case.name)), raw)?;
            std::fs::write(Path::new(dir).join(format!("{}.mask", case.name)), &case.mask)?;
            let nodules: Vec<_> =
                case.nodules.iter().map(|n| serde_json::json!([n.centre_mm, n.diameter_mm])).collect();
            Ok(serde_json::json!({
                "case": case.name, "shape": case.shape, "affine": case.affine, "label": case.label,
                "nodules": nodules, "seconds": seconds,
            })
            .to_string())
        })
        .collect::<Result<_, Box<dyn Error + Send + Sync>>>()?;
    for line in lines {
        println!("{line}");
    }
    Ok(())
}
