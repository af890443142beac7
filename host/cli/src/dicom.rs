//! The options for DICOM as INPUT: which series, and what its cases are called.

use anymc3d_host::output::salt_of_file;
use anymc3d_host::run::inputs::{InputOptions, StudyNames};
use anymc3d_host::scan::dicom::SeriesPick;
use anymc3d_manifest::Manifest;
use clap::Args;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a user says of DICOM inputs.
#[derive(Debug, Args)]
pub(super) struct DicomOptions {
    /// The series of DICOM inputs, whatever the plugin asks for: its number (with .STACK where it has several: 4.1), @PLACE
    /// in the list of `host doctor`, or its UID; of one view with VIEW= before it. Rules that it breaks are told
    #[arg(long, value_name = "[VIEW=]UID|NUMBER")]
    series: Vec<SeriesOption>,
    /// File with a secret of 16 bytes or more: names of DICOM cases are hashes of it and of the study [default: one that is
    /// made in --out, else one for this call]
    #[arg(long, value_name = "FILE")]
    id_salt: Option<PathBuf>,
    /// Name DICOM cases by PatientID and StudyInstanceUID, and let --report show the patient; without it no identity is written
    /// anywhere but into the objects of --dicom-out
    #[arg(long, conflicts_with = "id_salt")]
    keep_identity: bool,
    #[arg(skip)]
    salt: OnceCell<Vec<u8>>,
}

/// `--series`
#[derive(Debug, Clone)]
struct SeriesOption {
    view: Option<String>,
    pick: SeriesPick,
}

impl std::str::FromStr for SeriesOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (view, pick) = match text.split_once('=') {
            Some((view, pick)) => (Some(view.to_owned()), pick),
            None => (None, text),
        };
        Ok(Self { view, pick: pick.parse()? })
    }
}

impl DicomOptions {
    /// Whether results may say whose they are.
    pub fn keeps_identity(&self) -> bool {
        self.keep_identity
    }

    /// What clap cannot see.
    ///
    /// # Errors
    /// One line: a view that no plugin has, an unreadable secret.
    pub fn check(&self, tasks: &[Manifest]) -> Result<(), String> {
        let known: BTreeSet<&str> = tasks.iter().flat_map(|m| &m.views).map(|v| v.name.as_str()).collect();
        if let Some(view) = self.series.iter().filter_map(|s| s.view.as_deref()).find(|v| !known.contains(v))
        {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(format!("--series {view}=…: no such view; there is: {}", known.join(", ")));
        }
        if let Some(file) = &self.id_salt {
            let salt = salt_of_file(file).map_err(|e| format!("--id-salt {}: {e}", file.display()))?;
            let _ = self.salt.set(salt);
        }
        Ok(())
    }

    /// Options on which results depend, where they are given.
    pub fn result_options(&self) -> BTreeMap<String, Value> {
        let series: Vec<String> = self.series.iter().map(|s| format!("{s:?}")).collect();
        let series = (!series.is_empty()).then(|| json!(series));
        let identity = self.keep_identity.then_some(Value::Bool(true));
        let given = [("series", series), ("keep-identity", identity)];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// As the library takes them; `out` holds the salt where no option says otherwise.
    pub fn input_options(&self, out: Option<&Path>) -> InputOptions {
        let mut options = InputOptions::default();
        options.series = self.series.iter().map(|s| (s.view.clone(), s.pick.clone())).collect();
        options.names = match (self.salt.get(), out) {
            _ if self.keep_identity => StudyNames::with_identity(),
            (Some(salt), _) => StudyNames::with_salt(salt.clone()),
            (None, Some(out)) => StudyNames::with_salt_of_folder(out),
            (None, None) => StudyNames::default(),
        };
        options
    }
}
