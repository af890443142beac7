//! `host plugin new`: writes a crate that builds, passes its tests and trains without a change.

mod check;
mod template;
mod vendored;

use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_manifest::{Manifest, Modality, TaskKind};
use check::Wish;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  host plugin new liver_lesion
  host plugin new stroke --views t1,t2,flair --modality MR --labels none,stroke --kind multiclass
  host plugin new lung_nodule2 --views axial,coronal --labels nodule --segmentation
  host plugin new my_task --plugin-api ../anymc3d/plugin-api elsewhere/my_task";

/// What `--modality` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModalityOption {
    #[value(name = "CT")]
    Ct,
    #[value(name = "MR")]
    Mr,
    #[value(name = "PT")]
    Pt,
    #[value(name = "any")]
    Any,
}

/// What `--kind` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindOption {
    Binary,
    Multiclass,
    Multilabel,
}

/// Write a new task: a crate with manifest, code, tests, model card and CI that builds without a change
#[derive(Debug, Args)]
pub(super) struct New {
    /// Name of the task: 2 to 64 of a-z, 0-9 and _, a letter first
    #[arg(value_name = "NAME")]
    name: String,
    /// Folder of the crate; it must be empty or not exist [default: NAME in the working folder]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Orientations (axial, coronal, sagittal, native) of one scan, or names of sequences with a scan each (t1, t2, …)
    #[arg(long, value_name = "V,…", value_delimiter = ',', default_value = "axial")]
    views: Vec<String>,
    /// Labels, or the classes of a multiclass task [default: NAME]
    #[arg(long, value_name = "L,…", value_delimiter = ',')]
    labels: Vec<String>,
    /// One label, one class per case, or any number of labels [default: binary for one label, multilabel for several]
    #[arg(long, value_enum)]
    kind: Option<KindOption>,
    /// Modality of the scans [default: MR if a view has the name of an MR sequence, else CT]
    #[arg(long, value_enum)]
    modality: Option<ModalityOption>,
    /// Add pixel supervision: masks in training teach where to look
    #[arg(long)]
    segmentation: bool,
    /// Dependency on plugin-api: its folder, or a version in a package registry [default: a copy that the host contains]
    #[arg(long, value_name = "PATH|VERSION")]
    plugin_api: Option<String>,
}

/// Where the new crate finds plugin-api.
enum Dependency {
    Vendored,
    Folder(PathBuf),
    Version(String),
}

impl New {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let usage = |message: String| CommandError::usage(message);
        let labels = if self.labels.is_empty() { vec![self.name.clone()] } else { self.labels };
        let kind = match (self.kind, labels.len()) {
            (Some(KindOption::Binary), _) | (None, 1) => TaskKind::Binary,
            (Some(KindOption::Multiclass), _) => TaskKind::Multiclass,
            (Some(KindOption::Multilabel), _) | (None, _) => TaskKind::Multilabel,
        };
        let modality = self.modality.map(|m| match m {
            ModalityOption::Ct => Modality::CT,
            ModalityOption::Mr => Modality::MR,
            ModalityOption::Pt => Modality::PT,
            ModalityOption::Any => Modality::Any,
        });
        let wish = Wish { name: self.name, views: self.views, labels, kind, segmentation: self.segmentation };
        wish.check().map_err(usage)?;
        let modality = modality.unwrap_or_else(|| wish.modality());
        let dependency = dependency(self.plugin_api.as_deref()).map_err(usage)?;
        let folder = self.folder.unwrap_or_else(|| PathBuf::from(&wish.name));
        vacant(&folder).map_err(usage)?;

        let mut files = template::files(&wish, modality, &dependency);
        // What was checked above is what the manifest's own check would refuse; it has the last word all the same.
        let manifest = files.iter().find(|(name, _)| name == "plugin.toml").map(|(_, text)| text.as_str());
        Manifest::parse_strict(manifest.unwrap_or_default()).map_err(|e| usage(e.to_string()))?;
        if matches!(dependency, Dependency::Vendored) {
            files.extend(vendored::files(&wish.name));
        }
        write(&folder, &files)?;
        console.result(folder.display());
        console.aside(next_steps(&wish, &folder));
        Ok(Outcome::Done)
    }
}

fn next_steps(wish: &Wish, folder: &Path) -> String {
    let (name, folder) = (&wish.name, folder.display());
    let library = format!("target/release/{}", anymc3d_host::plugin::find::library_name(name));
    format!(
        "next: cd {folder}\n      cargo build --release\n      cargo test --release\n      host plugin check {library}\n      \
         host train --plugin {library} --data table.csv --out run\n\
         then: fill the TODOs of README.md, its model card"
    )
}

/// What `--plugin-api` means.
fn dependency(wanted: Option<&str>) -> Result<Dependency, String> {
    let Some(wanted) = wanted else {
        return match vendored::is_there() {
            true => Ok(Dependency::Vendored),
            false => {
                Err("this host carries no copy of plugin-api; give --plugin-api PATH or VERSION".to_owned())
            }
        };
    };
    let folder = PathBuf::from(wanted);
    let manifest = folder.join("Cargo.toml");
    if manifest.is_file() {
        let text = std::fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let found = text.parse::<toml::Table>().ok();
        let name = found.as_ref().and_then(|t| t.get("package")?.get("name")?.as_str());
        if name != Some(vendored::PACKAGE) {
            let name = name.unwrap_or("no package");
            return Err(format!(
                "--plugin-api {wanted}: holds {name}, expected {}; give its folder, or a version such as 1.0",
                vendored::PACKAGE
            ));
        }
        let whole = folder.canonicalize().map_err(|e| format!("--plugin-api {wanted}: {e}"))?;
        return Ok(Dependency::Folder(whole));
    }
    if semver::VersionReq::parse(wanted).is_ok() && !folder.is_dir() {
        return Ok(Dependency::Version(wanted.to_owned()));
    }
    Err(format!(
        "--plugin-api {wanted}: neither a folder with plugin-api's Cargo.toml nor a version such as 1.0"
    ))
}

/// Refuses a folder that holds other files.
fn vacant(folder: &Path) -> Result<(), String> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(format!(
                "{}: is not empty; give another folder, `host plugin new NAME DIR`",
                folder.display()
            )),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(format!("{}: cannot become the plugin's folder ({e}); give another", folder.display())),
    }
}

/// All files or none: they are written beside the folder and get its name at the end.
fn write(folder: &Path, files: &[(String, String)]) -> Result<(), CommandError> {
    let failed =
        |e: std::io::Error| CommandError::failed(format!("{}: cannot be written ({e})", folder.display()));
    let whole = std::path::absolute(folder).map_err(failed)?;
    let parent = whole.parent().unwrap_or(&whole);
    std::fs::create_dir_all(parent).map_err(failed)?;
    let made = tempfile::Builder::new().prefix(".plugin-new-").tempdir_in(parent).map_err(failed)?;
    for (name, text) in files {
        let path = made.path().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)?;
    }
    if whole.is_dir() {
        std::fs::remove_dir(&whole).map_err(failed)?;
    }
    // A temporary folder is for its owner alone; a crate is as readable as any folder made by hand.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let like = std::fs::metadata(made.path().join("src")).map_err(failed)?.permissions().mode();
        std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(like)).map_err(failed)?;
    }
    std::fs::rename(made.path(), &whole).map_err(failed)
}
