//! `slices_of OUT PATH…`: cuts each scan into the slices that a task would see, for comparisons between formats. Prints a JSON
//! line for each path, and writes the pixels to OUT/N.f32, N the line's number. A first path of CT is
//! windowed as `lung_nodule` asks, around the body, everything else is scaled by percentiles, as `brain_mri` asks; the paths after
//! it as the first.

use anymc3d_host::scan::{Scan, slices};
use std::path::PathBuf;

const CT: &str = include_str!("../../plugins/lung_nodule/plugin.toml");
const MR: &str = include_str!("../../plugins/brain_mri/plugin.toml");
const PATCH: usize = 14;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let out = arguments.next().expect("a folder for the pixels");
    let mut kind = None;
    for (n, path) in arguments.enumerate() {
        let mut cut = || -> Result<serde_json::Value, String> {
            let scan = Scan::open(&path).map_err(|e| e.to_string())?;
            let modality = scan.modality.or(scan.modality_guess);
            let ct = *kind.get_or_insert(modality == Some(anymc3d_manifest::Modality::CT));
            let text = if ct { CT.replace("region = \"lungs\"", "region = \"body\"") } else { MR.to_owned() };
            let parsed = anymc3d_manifest::Manifest::parse(&text).map_err(|e| e.to_string())?;
            let stack =
                slices(&scan.canonical(), &parsed.manifest.views[0], PATCH).map_err(|e| e.to_string())?;
            let bytes: Vec<u8> = stack.pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(out.join(format!("{n}.f32")), bytes).map_err(|e| e.to_string())?;
            Ok(serde_json::json!({ "shape": stack.shape, "ct": ct, "orientation": scan.orientation,
                "spacing_mm": scan.spacing_mm, "warnings": stack.warnings }))
        };
        println!("{}", cut().unwrap_or_else(|e| serde_json::json!({ "refused": e })));
    }
}
