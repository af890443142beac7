//! Reads every file given (or below a folder given) on its own and prints a JSON line for each: what its pixels are,
//! or the kind of refusal. `tests/outside/dicom_values.py` compares the lines with pydicom.
//!
//! `read_all PATH…`; with `--raw FOLDER` the f32 values are written there as N.f32, N the line's number.

use std::path::{Path, PathBuf};

use anymc3d_dicom::{Limits, read_file};

fn main() -> std::io::Result<()> {
    let (mut raw, mut paths) = (None, Vec::new());
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--raw" {
            raw = args.next().map(PathBuf::from);
        } else {
            files(Path::new(&arg), &mut paths)?;
        }
    }
    let limits = Limits { file_bytes: 1 << 30, volume_bytes: 1 << 30, ..Limits::default() };
    for (n, path) in paths.iter().enumerate() {
        let line = match read_file(path, &limits) {
            Ok(pixels) => {
                if let Some(folder) = &raw {
                    let bytes: Vec<u8> = pixels.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    std::fs::write(folder.join(format!("{n}.f32")), bytes)?;
                }
                serde_json::json!({
                    "file": path, "number": n, "dims": pixels.dims, "modality": pixels.modality,
                    "transfer_syntax": pixels.transfer_syntax,
                })
            }
            Err(e) => {
                serde_json::json!({ "file": path, "number": n, "refused": e.kind.name(), "why": e.without_file() })
            }
        };
        println!("{line}");
    }
    Ok(())
}

fn files(path: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        out.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    entries.iter().try_for_each(|e| files(e, out))
}
