//! Where things are: a plugin's library by path or name, its weights, and the home folder.

use super::error::PluginError;
use anymc3d_registry::{Home, InstalledPackage, LockFile, RegistryError, Request, Wanted, installed};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

static INSTALLATION: OnceLock<PathBuf> = OnceLock::new();

/// For a program that is not part of an installation, as an interpreter that has this library in a module is not: the folder
/// in which the executable `host` of the installation lies. Backbones, plugins and weights are then found as that executable
/// finds them. The first call counts; whether this was it.
pub fn set_installation(folder: &Path) -> bool {
    INSTALLATION.set(folder.to_owned()).is_ok()
}

/// The folders above the executable, nearest first: a checkout's own folders are among them.
pub fn above_the_executable() -> Vec<PathBuf> {
    let executable = match INSTALLATION.get() {
        Some(folder) => folder.canonicalize().map(|folder| folder.join("host")),
        None => std::env::current_exe().and_then(|p| p.canonicalize()),
    };
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

/// How an installed package is chosen among its versions.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The lock file; by default `anymc3d.lock` in the working folder, where there is one.
    pub lock: Option<PathBuf>,
    /// Whether a version that was withdrawn for safety may run.
    pub allow_yanked: bool,
}

/// Finds the library that the user typed: as a path, else among the installed plugins (also as `NAME@VERSION`), else
/// beside the executable; each also as `libNAME.so`.
///
/// # Errors
/// When no library is found; the error lists every path that was tried.
pub fn library(wanted: &str) -> Result<PathBuf, PluginError> {
    library_with(wanted, &Choice::default())
}

/// As [`library`], with a given lock file, or with withdrawn versions allowed.
///
/// # Errors
/// As [`library`], and when versions are installed and none may run.
pub fn library_with(wanted: &str, choice: &Choice) -> Result<PathBuf, PluginError> {
    let typed = PathBuf::from(wanted);
    if typed.is_file() {
        if let Some(package) = package_of(&typed)? {
            package.may_run(choice.allow_yanked)?;
        }
        return Ok(typed);
    }
    let mut looked = vec![typed.display().to_string()];
    if typed.components().count() == 1 {
        let (name, versioned) = match wanted.split_once('@') {
            Some((name, _)) => (name.to_owned(), true),
            None => (stem(&typed), false),
        };
        let request = if versioned {
            wanted.parse::<Request>()?
        } else {
            Request { name: name.clone(), versions: Wanted::Any }
        };
        if let Some(home) = home() {
            let lock = lock_file(choice.lock.as_deref())?;
            let home = Home::new(home);
            if let Some(package) = installed::choose(&home, &request, lock.as_ref(), choice.allow_yanked)? {
                return Ok(package.library()?);
            }
            looked.push(home.plugins().join(&name).display().to_string());
        }
        if versioned {
            return Err(PluginError::NotInstalled { wanted: wanted.to_owned(), looked });
        }
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
            let text = folder.display().to_string();
            if !looked.contains(&text) {
                looked.push(text);
            }
        }
    }
    let names: Vec<String> = all_libraries().iter().map(|library| stem(library)).collect();
    let nearest = anymc3d_manifest::nearest(&stem(&typed), names.iter().map(String::as_str));
    Err(PluginError::NotFound { wanted: wanted.to_owned(), nearest: nearest.map(str::to_owned), looked })
}

/// The lock file that was given, which must exist, or the one in the working folder, which may.
fn lock_file(given: Option<&Path>) -> Result<Option<LockFile>, PluginError> {
    let path = given.unwrap_or(Path::new(anymc3d_registry::LOCK_FILE));
    let lock = LockFile::open(path, &super::section::this_target())?;
    if given.is_some() && lock.is_none() {
        let reason = "no such lock file; `host registry install --lock` writes one".to_owned();
        return Err(RegistryError::Lock { path: path.to_owned(), reason }.into());
    }
    Ok(lock)
}

/// The verified package that a library was installed from; `None` for a file outside of the installed packages.
///
/// # Errors
/// When the file lies in a package's folder but the package does not verify.
pub fn package_of(library: &Path) -> Result<Option<InstalledPackage>, PluginError> {
    let (Some(home), Ok(library)) = (home(), library.canonicalize()) else { return Ok(None) };
    let home = Home::new(home);
    let (Some(folder), Ok(plugins)) = (library.parent(), home.plugins().canonicalize()) else {
        return Ok(None);
    };
    if folder.parent().and_then(Path::parent) != Some(&plugins)
        || !folder.join(anymc3d_registry::package::MANIFEST).is_file()
    {
        return Ok(None);
    }
    // What is on its way in is probed as any file is.
    if folder.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
        return Ok(None);
    }
    Ok(Some(installed::open(&home, folder)?))
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
    let mut packaged = Vec::new();
    if let Some(home) = home().map(Home::new) {
        let all = installed::all(&home)
            .into_iter()
            .filter_map(|(_, _, folder)| installed::open(&home, &folder).ok());
        packaged.extend(all.filter_map(|package| package.library().ok()));
    }
    if let Some(installed) = home().map(|h| h.join("plugins")) {
        let entries = std::fs::read_dir(installed).into_iter().flatten().flatten();
        folders.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
    }
    let files =
        folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten().map(|e| e.path());
    let suffix = std::env::consts::DLL_SUFFIX.trim_start_matches('.');
    let mut libraries: Vec<PathBuf> =
        files.filter(|p| p.is_file() && p.extension().is_some_and(|e| e == suffix)).collect();
    libraries.extend(packaged);
    libraries.sort();
    libraries
}
