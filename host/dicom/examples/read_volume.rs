//! Reads every stack below a path; a JSON line each, and the f32 values as N.f32 in a folder: for comparisons with
//! other programs (`tests/outside/dicom_volumes.py`).
//!
//! `read_volume PATH FOLDER`

use std::path::Path;

use anymc3d_dicom::{Limits, read_volume, scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [path, folder] = args.as_slice() else { return Err("read_volume PATH FOLDER".into()) };
    let limits = Limits::default();
    let found = scan(Path::new(path), &limits)?;
    let mut n = 0;
    for series in found.studies.iter().flat_map(|s| &s.series) {
        for (index, stack) in series.stacks.iter().enumerate() {
            let line = match read_volume(&found, series, index, &limits) {
                Ok(v) => {
                    let bytes: Vec<u8> = v.voxels.iter().flat_map(|x| x.to_le_bytes()).collect();
                    std::fs::write(Path::new(folder).join(format!("{n}.f32")), bytes)?;
                    serde_json::json!({
                        "number": n, "series": series.uid, "label": stack.label, "dims": v.dims,
                        "affine": v.affine.0, "spacing_mm": v.spacing_mm, "warnings": v.warnings,
                        "files": v.frames.iter().map(|f| &f.file).collect::<Vec<_>>(),
                    })
                }
                Err(e) => serde_json::json!({
                    "number": n, "series": series.uid, "label": stack.label, "refused": e.kind.name(),
                    "why": e.without_file(),
                }),
            };
            println!("{line}");
            n += 1;
        }
    }
    Ok(())
}
