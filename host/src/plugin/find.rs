//! Where things are: a plugin's library by path or name, its weights, and the home folder.

use super::error::PluginError;
use std::path::{Path, PathBuf};

/// `$ANYMC3D_HOME`, else the platform's data folder. None when the machine has neither.
pub fn home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = set("ANYMC3D_HOME") {
        return Some(home);
    }
    if cfg!(windows) {
        set("LOCALAPPDATA").map(|p| p.join("anymc3d"))
    } else if cfg!(target_os = "macos") {
        set("HOME").map(|p| p.join("Library/Application Support/anymc3d"))
    } else {
        set("XDG_DATA_HOME")
            .or_else(|| set("HOME").map(|p| p.join(".local/share")))
            .map(|p| p.join("anymc3d"))
    }
}

/// The folders above the executable, nearest first: a checkout's own folders are among them.
pub fn above_the_executable() -> Vec<PathBuf> {
    let executable = std::env::current_exe().and_then(|p| p.canonicalize());
    executable.map(|p| p.ancestors().skip(1).map(Path::to_owned).collect()).unwrap_or_default()
}

/// `liblung_nodule.so` for `lung_nodule`.
pub fn library_name(stem: &str) -> String {
    format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// The stem of a library's file name without the platform's prefix.
pub fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix(std::env::consts::DLL_PREFIX).unwrap_or(&stem).to_owned()
}

/// A library by what the user typed: that path; else among the installed plugins; else beside the executable; each
/// also as `libNAME.so`.
///
/// # Errors
/// When there is none, with every place that was looked at.
pub fn library(wanted: &str) -> Result<PathBuf, PluginError> {
    let typed = PathBuf::from(wanted);
    if typed.is_file() {
        return Ok(typed);
    }
    let mut looked = vec![typed.display().to_string()];
    if typed.components().count() == 1 {
        let name = stem(&typed);
        let names = [typed.file_name().unwrap_or_default().to_os_string(), library_name(&name).into()];
        let installed = home().map(|h| h.join("plugins").join(&name));
        let beside = above_the_executable().into_iter().take(2);
        for folder in installed.into_iter().chain(beside) {
            for name in &names {
                let candidate = folder.join(name);
                if candidate.is_file() {
                    return Ok(candidate);
                }
            }
            looked.push(folder.display().to_string());
        }
    }
    Err(PluginError::NotFound { wanted: wanted.to_owned(), looked })
}

/// Places of a plugin's weights, in the order they are tried: beside the library, the home folder, the checkout.
pub fn weights_places(library: &Path, plugin: &str) -> Vec<PathBuf> {
    let file = format!("{plugin}.safetensors");
    let mut places = vec![library.with_file_name(&file)];
    places.extend(home().map(|h| h.join("plugins").join(plugin).join(&file)));
    let above_library = library.canonicalize().ok();
    let above_library = above_library.iter().flat_map(|p| p.ancestors().skip(1).map(Path::to_owned));
    let checkouts = above_library.chain(above_the_executable()).filter(|f| f.join("plugins").is_dir());
    for checkout in checkouts {
        let place = checkout.join("plugins").join(plugin).join(&file);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Libraries that would be found by name: installed, and beside the executable. Unreadable folders are skipped.
pub fn all_libraries() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = above_the_executable().into_iter().take(1).collect();
    if let Some(installed) = home().map(|h| h.join("plugins")) {
        let entries = std::fs::read_dir(installed).into_iter().flatten().flatten();
        folders.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
    }
    let files =
        folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten().map(|e| e.path());
    let suffix = std::env::consts::DLL_SUFFIX.trim_start_matches('.');
    let mut libraries: Vec<PathBuf> =
        files.filter(|p| p.is_file() && p.extension().is_some_and(|e| e == suffix)).collect();
    libraries.sort();
    libraries
}
