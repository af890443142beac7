//! A case to predict: its files, what a task does for it, and why a task has no answer.

use crate::backbone::BackboneError;
use crate::scan::RegionOfInterest;
use crate::scan::source::stem_of;
use crate::task::TaskError;
use anymc3d_manifest::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A case to answer: a scan for every view, or one file per view.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Name, for folders and results.
    pub name: String,
    /// The scan of views that `views` does not name.
    pub image: Option<PathBuf>,
    /// Files by view; by `plugin/view` for one plugin only.
    pub views: BTreeMap<String, PathBuf>,
    /// Where views with the region `mask` or `point` look.
    #[serde(default)]
    pub region: RegionOfInterest,
    /// Of files that are copies what they are copies of, which records and messages tell instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub copies: BTreeMap<PathBuf, PathBuf>,
}

impl Case {
    /// A case of one file, called by the file's name.
    pub fn of_file(path: &Path) -> Self {
        // The name of a folder of results: it never leaves the folder that those lie in.
        let name = match stem_of(path) {
            name if matches!(name.as_str(), "" | "." | "..") => "case".to_owned(),
            name => name,
        };
        Self { name, image: Some(path.to_owned()), ..Self::default() }
    }

    /// The file that a view of a plugin reads.
    pub fn file(&self, plugin: &str, view: &str) -> Option<&Path> {
        let own = self.views.get(&Self::own(plugin, view)).or_else(|| self.views.get(view));
        own.or(self.image.as_ref()).map(PathBuf::as_path)
    }

    /// Under what a file that is one plugin's alone stands in `views`: plugins may choose different series of one study
    /// for views of one name, which has no `/`.
    pub fn own(plugin: &str, view: &str) -> String {
        format!("{plugin}/{view}")
    }

    /// Its files, each once.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.views.values().chain(&self.image).chain(&self.region.mask);
        let mut all: Vec<&Path> = files.map(PathBuf::as_path).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    /// A text in which copies are called by what they are copies of.
    pub fn with_origins(&self, text: String) -> String {
        self.copies.iter().fold(text, |text, (copy, origin)| {
            text.replace(&copy.display().to_string(), &origin.display().to_string())
        })
    }

    /// Refuses that its one file serves views of different scans: it would be taken for each of them.
    ///
    /// # Errors
    /// [`CaseError::SharedScan`] with the views.
    pub fn check_sequences(&self, manifest: &Manifest) -> Result<(), CaseError> {
        let Some(path) = &self.image else { return Ok(()) };
        let views = manifest.views_of_other_scans(|view| !self.views.contains_key(&view.name));
        if views.is_empty() {
            return Ok(());
        }
        Err(CaseError::SharedScan {
            path: path.clone(),
            plugin: manifest.plugin.name.clone(),
            views: views.iter().map(|v| v.name.clone()).collect(),
        })
    }

    /// A file that names the case in messages.
    pub fn any_file(&self) -> &Path {
        let any = self.image.as_deref().or_else(|| self.views.values().next().map(PathBuf::as_path));
        any.unwrap_or(Path::new(""))
    }
}

/// Why a task has no answer for a case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The scan.
    #[error("{0}")]
    Scan(String),
    /// A required view has no file.
    #[error("view `{view}` of plugin {plugin} has no file; expected one")]
    MissingView {
        /// Plugin.
        plugin: String,
        /// View.
        view: String,
    },
    /// One file for views that are of different scans.
    #[error(
        "{}: one scan cannot be the views {} of plugin {plugin}, which are different sequences; expected a file of its own \
         for each that is there",
        path.display(),
        views.join(", ")
    )]
    SharedScan {
        /// The file.
        path: PathBuf,
        /// Plugin.
        plugin: String,
        /// Its views that would read it.
        views: Vec<String>,
    },
    /// The plugin.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// Tensors.
    #[error("{0}")]
    Tensor(String),
}

impl CaseError {
    /// What would help, for whoever calls the library to say in its own words.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::MissingView { view, .. } => Some(Remedy::FileForEach(vec![view.clone()])),
            Self::SharedScan { views, .. } => Some(Remedy::FileForEach(views.clone())),
            Self::Scan(_) | Self::Task(_) | Self::Backbone(_) | Self::Tensor(_) => None,
        }
    }
}

/// What would help against an error: how it is said depends on whether a command line, a server or a program asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Remedy {
    /// Give each of these views a file of its own.
    FileForEach(Vec<String>),
}

impl From<candle_core::Error> for CaseError {
    fn from(e: candle_core::Error) -> Self {
        Self::Tensor(crate::device::one_line(&e))
    }
}

/// What a task does for a case. The engine reports each stage before it begins: if the process ends, the last report names
/// the task and what it was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// A scan is read and sliced: none of the plugin's code runs.
    Scan,
    /// Slices go through the backbone with a declared adapter or none: none of the plugin's code runs.
    Backbone,
    /// Slices go through the backbone with an adapter of the plugin's own code.
    Adapter,
    /// The plugin's head.
    Head,
    /// The plugin's segmentation branch.
    Segmentation,
    /// The answer is written: none of the plugin's code runs.
    Record,
}

impl Stage {
    /// Whether code of the plugin runs.
    pub fn is_plugins(self) -> bool {
        !matches!(self, Self::Scan | Self::Backbone | Self::Record)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scan => "reading the scan",
            Self::Backbone => "the backbone",
            Self::Adapter => "adapter apply",
            Self::Head => "forward",
            Self::Segmentation => "segmentation logits",
            Self::Record => "writing the answer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_the_folder() {
        assert_eq!(
            ["..", "", "a/..nii", "a/b.nii"].map(|p| Case::of_file(Path::new(p)).name),
            ["case", "case", "case", "b"]
        );
    }
}
