//! Who answers: the engine in this process, or one in a process of its own.

use super::answer;
use super::console::Console;
#[cfg(unix)]
use super::isolate::Apart;
use super::naming::{Names, Scans};
use super::output::Output;
use crate::engine::result::CaseResult;
use crate::engine::{Case, CaseError, Engine, LoadedTask};
use crate::plugin::find::{self, Choice};
use anymc3d_manifest::Manifest;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One of the plugins of a run.
#[derive(Clone)]
pub(super) struct Seated {
    /// As typed.
    pub wanted: String,
    /// Its library when it was opened.
    pub library: PathBuf,
    pub manifest: Manifest,
}

/// The plugins of a run, and who answers with them.
pub(super) struct Seat {
    pub plugins: Vec<Seated>,
    /// How installed packages were chosen.
    pub choice: Choice,
    pub weights: Option<PathBuf>,
    pub segmentation: bool,
    /// Of answers that are written nowhere.
    pub names: Names,
    pub who: Who,
}

pub(super) enum Who {
    Here(Box<Engine>),
    /// Index of each plugin there.
    #[cfg(unix)]
    Apart(Box<Apart>, Vec<usize>),
}

/// An answer that is written.
pub(super) struct Told {
    pub result: CaseResult,
    /// The record as one line.
    pub json: String,
    /// Where its files are.
    pub folder: Option<PathBuf>,
}

/// Why there is none.
pub(super) struct NoAnswer {
    pub message: String,
    /// The scan is why.
    pub scan: bool,
}

impl Seat {
    /// Name of a plugin.
    pub fn name(&self, index: usize) -> &str {
        &self.plugins[index].manifest.plugin.name
    }

    /// What the plugins say of themselves.
    pub fn manifests(&self) -> Vec<Manifest> {
        self.plugins.iter().map(|p| p.manifest.clone()).collect()
    }

    /// Every plugin's answer to a case, in their order; with `out`, its files are in place.
    pub fn answer(
        &mut self,
        case: &Case,
        out: Option<&Output>,
        heatmap: bool,
        console: &Console,
    ) -> Vec<Result<Told, NoAnswer>> {
        let names = &mut self.names;
        let mut place = Placing { case, out, names, console };
        match &mut self.who {
            Who::Here(engine) => {
                let answers = engine.predict(case, heatmap);
                answers.into_iter().map(|a| here(a, &mut place, heatmap)).collect()
            }
            #[cfg(unix)]
            Who::Apart(apart, indices) => {
                let scratch = out.map(Output::scratch).transpose();
                let scratch = match scratch {
                    Ok(scratch) => scratch,
                    Err(message) => {
                        let failed = |_: &usize| Err(NoAnswer { message: message.clone(), scan: false });
                        return indices.iter().map(failed).collect();
                    }
                };
                let folder = scratch.as_ref().map(|s| s.path().to_owned());
                let mut answers = apart.answer(case, heatmap, folder.as_deref(), console);
                let took = |task: &usize| match answers.remove(task) {
                    Some(Ok(json)) => {
                        let files = folder.as_ref().map(|f| f.join(task.to_string()));
                        placed(json, files.as_deref(), &mut place)
                    }
                    Some(Err(fault)) => Err(NoAnswer { message: fault.message, scan: fault.scan }),
                    None => Err(NoAnswer { message: "no answer came".to_owned(), scan: false }),
                };
                indices.iter().map(took).collect()
            }
        }
    }

    /// Opens the newest build of a plugin in place of the one that answers; what to tell of it.
    ///
    /// # Errors
    /// One line; in this process the earlier build goes on.
    pub fn reload(&mut self, index: usize, console: &Console) -> Result<String, String> {
        let path =
            find::library_with(&self.plugins[index].wanted, &self.choice).map_err(|e| e.to_string())?;
        let (embedded, sha256, _) = crate::plugin::inspect(&path).map_err(|e| e.to_string())?;
        let (manifest, found) = (embedded.manifest, &self.plugins[index].manifest.plugin.name);
        if manifest.plugin.name != *found {
            let name = &manifest.plugin.name;
            return Err(format!("{}: is plugin {name} now, expected {found}", path.display()));
        }
        match &mut self.who {
            Who::Here(engine) => {
                let weights = self.weights.as_deref();
                let next = LoadedTask::open_found(&path, weights, engine.backbone(), self.segmentation)
                    .map_err(|e| e.to_string())?;
                retire(engine.replace(index, next), console);
            }
            #[cfg(unix)]
            Who::Apart(apart, indices) => apart.reload(indices[index], &path, console)?,
        }
        let told = format!(
            "{} {} ({}…) answers from here on",
            manifest.plugin.name,
            manifest.plugin.version,
            &sha256[..12]
        );
        self.plugins[index].manifest = manifest;
        self.plugins[index].library = path;
        Ok(told)
    }

    /// Lets the plugins go.
    pub fn close(self, console: &Console) {
        match self.who {
            Who::Here(engine) => drop(engine),
            #[cfg(unix)]
            Who::Apart(mut apart, _) => apart.close(console),
        }
    }
}

/// The last user lets go of a generation: what its Drop says is told.
fn retire(old: Arc<LoadedTask>, console: &Console) {
    if let Some(Err(e)) = Arc::into_inner(old).map(|old| old.task.close()) {
        console.warning(e);
    }
}

/// Where a case's answers go, and what they are called.
struct Placing<'a> {
    case: &'a Case,
    out: Option<&'a Output>,
    names: &'a mut Names,
    console: &'a Console,
}

impl Placing<'_> {
    /// Puts the files that `fill` writes into their place, with the record named as its folder is.
    fn put(
        &self,
        out: &Output,
        plugin: &str,
        fill: impl FnOnce(&Path) -> Result<CaseResult, String>,
    ) -> Result<(CaseResult, Option<PathBuf>), String> {
        let fill = |folder: &Path| {
            fill(folder).map(|result| {
                let scans = Scans::of(&result);
                (result, scans)
            })
        };
        let rename = |result: &mut CaseResult, name: &str, folder: &Path| {
            if result.case == name {
                return Ok(());
            }
            result.case = name.to_owned();
            answer::write(result, folder)
        };
        let put = out.put(self.case, plugin, fill, rename)?;
        if let Some(note) = put.note {
            self.console.warning(note);
        }
        Ok((put.what, Some(put.place)))
    }

    /// Names a record that is written nowhere.
    fn name(&mut self, mut result: CaseResult) -> CaseResult {
        result.case = self.names.choose(&result.plugin.name, self.case, Scans::of(&result));
        result
    }
}

fn here(
    answer: Result<crate::engine::Prediction, CaseError>,
    place: &mut Placing<'_>,
    heatmap: bool,
) -> Result<Told, NoAnswer> {
    let prediction =
        answer.map_err(|e| NoAnswer { message: e.to_string(), scan: matches!(e, CaseError::Scan(_)) })?;
    let written = match place.out {
        None => answer::record(prediction, None, heatmap).map(|result| (place.name(result), None)),
        Some(out) => {
            let plugin = prediction.result.plugin.name.clone();
            place.put(out, &plugin, |folder| answer::record(prediction, Some(folder), heatmap))
        }
    };
    let failed = |message: String| NoAnswer { message, scan: false };
    let (result, folder) = written.map_err(failed)?;
    let json = serde_json::to_string(&result)
        .map_err(|e| failed(format!("a result cannot be written as JSON: {e}")))?;
    Ok(Told { result, json, folder })
}

/// Moves what the other process wrote into its place.
#[cfg(unix)]
fn placed(json: String, files: Option<&Path>, place: &mut Placing<'_>) -> Result<Told, NoAnswer> {
    let failed = |message: String| NoAnswer { message, scan: false };
    let result: CaseResult =
        serde_json::from_str(&json).map_err(|e| failed(format!("the answer is no result: {e}")))?;
    let (result, folder) = match (files, place.out) {
        (Some(files), Some(out)) => {
            let plugin = result.plugin.name.clone();
            let put = place.put(out, &plugin, |into| {
                let move_all = || -> std::io::Result<()> {
                    for entry in std::fs::read_dir(files)? {
                        let entry = entry?;
                        std::fs::rename(entry.path(), into.join(entry.file_name()))?;
                    }
                    Ok(())
                };
                move_all().map_err(|e| format!("cannot be written ({e})")).map(|()| result)
            });
            put.map_err(failed)?
        }
        _ => (place.name(result), None),
    };
    let json = serde_json::to_string(&result)
        .map_err(|e| failed(format!("a result cannot be written as JSON: {e}")))?;
    Ok(Told { result, json, folder })
}
