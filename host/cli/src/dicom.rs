//! DICOM as INPUT: one case per study, named by a hash, its views filled by the series that fit.

use super::console::Console;
use anymc3d_host::engine::Case;
use anymc3d_host::output::{random_salt, salt_of_file, salt_of_folder};
use anymc3d_host::scan::dicom::{DicomInput, SeriesPick, ViewFill, case_id};
use anymc3d_manifest::Manifest;
use clap::Args;
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
    /// Name DICOM cases by PatientID and StudyInstanceUID; without it no identity is written anywhere
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

/// Plugins that do not answer a case, by the case's and the plugin's name.
#[derive(Debug, Default)]
pub(super) struct Unanswered(BTreeMap<(String, String), Option<String>>);

impl Unanswered {
    /// The study has no series for the plugin: told already, and no failure.
    fn skip(&mut self, case: &str, plugin: &str) {
        self.0.insert((case.to_owned(), plugin.to_owned()), None);
    }

    /// The file that a table names cannot be used.
    pub fn fail(&mut self, case: &str, plugin: &str, reason: String) {
        self.0.insert((case.to_owned(), plugin.to_owned()), Some(reason));
    }

    /// Whether a plugin leaves a case out; within, why that is a failure.
    pub fn of(&self, case: &str, plugin: &str) -> Option<Option<&str>> {
        self.0.get(&(case.to_owned(), plugin.to_owned())).map(Option::as_deref)
    }
}

/// What came of the DICOM among the inputs.
#[derive(Debug, Default)]
pub(super) struct Studies {
    pub unanswered: Unanswered,
    /// Studies that no plugin answers: name and reason.
    skipped: Vec<(PathBuf, String)>,
}

impl Studies {
    /// Tells what was skipped: each in a line, or all of it in one where nothing else is left to do.
    pub fn tell_skipped(&mut self, any_case: bool, console: &Console) -> Option<(PathBuf, String)> {
        const NAMED: usize = 3;
        let skipped = std::mem::take(&mut self.skipped);
        if any_case || skipped.is_empty() {
            skipped.iter().for_each(|(_, line)| console.warning(line));
            return None;
        }
        let mut line = skipped.iter().take(NAMED).map(|(_, l)| l.clone()).collect::<Vec<_>>().join("; ");
        if skipped.len() > NAMED {
            line += &format!("; and {} more studies", skipped.len() - NAMED);
        }
        Some((skipped[0].0.clone(), line))
    }
}

impl DicomOptions {
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

    /// The name of a study's case.
    ///
    /// # Errors
    /// One line, when there is no secret to be had.
    pub fn name(&self, input: &DicomInput, study: usize, out: Option<&Path>) -> Result<String, String> {
        let of = &input.headers().studies[study];
        if self.keep_identity {
            let id = of.patient_id.as_ref().map_or("unknown", |id| id.reveal());
            let plain =
                |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
            return Ok(format!("{id}-{}", of.uid).chars().map(plain).collect::<String>().replace("..", "__"));
        }
        if self.salt.get().is_none() {
            let salt = match out {
                Some(out) => {
                    salt_of_folder(out).map_err(|e| format!("--out {}: no salt for ids ({e})", out.display()))
                }
                None => random_salt().map_err(|e| format!("no random numbers for ids ({e}); give --id-salt")),
            };
            let _ = self.salt.set(salt?);
        }
        Ok(case_id(self.salt.get().map_or(&[], Vec::as_slice), &of.uid))
    }

    /// The cases of an input: one per study that some plugin answers. What is chosen is told in one line per view.
    ///
    /// # Errors
    /// One line, when there is no secret for their names.
    pub fn cases(
        &self,
        input: &DicomInput,
        tasks: &[Manifest],
        out: Option<&Path>,
        studies: &mut Studies,
        console: &Console,
    ) -> Result<Vec<Case>, String> {
        tell_contents(input, console);
        let picks: Vec<_> = self.series.iter().map(|s| (s.view.clone(), s.pick.clone())).collect();
        let mut cases = Vec::new();
        if input.studies().is_empty() {
            let line =
                format!("{}: no DICOM file in it makes a study; see `host doctor`", input.root().display());
            studies.skipped.push((input.root().to_path_buf(), line));
        }
        for study in input.studies() {
            let name = self.name(input, study, out)?;
            let mut case = Case { name: name.clone(), image: None, views: BTreeMap::new() };
            let mut unfit = Vec::new();
            for manifest in tasks {
                let plugin = &manifest.plugin.name;
                match input.fill(study, manifest, &picks) {
                    Ok(fills) => {
                        for ViewFill { view, path, why, warnings } in fills {
                            console.note(format!("{name}: {plugin}: view {view}: {why}"));
                            for broken in warnings {
                                console.warning(format!(
                                    "{name}: {plugin}: view {view}: the series named by --series: {broken}"
                                ));
                            }
                            case.views.insert(Case::own(plugin, &view), path);
                        }
                    }
                    Err(e) => unfit.push((plugin, format!("{plugin}: view {}: {}", e.view, e.reason))),
                }
            }
            let reasons = || unfit.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>().join("; ");
            if case.views.is_empty() {
                let line = format!("{}: study {name} is skipped: {}", input.root().display(), reasons());
                studies.skipped.push((input.root().to_path_buf(), line));
                continue;
            }
            for (plugin, reason) in &unfit {
                console.warning(format!("{name}: skipped by {reason}"));
                studies.unanswered.skip(&name, plugin);
            }
            cases.push(case);
        }
        Ok(cases)
    }
}

/// One line each for what is no series of slices, and for files that could not be read.
fn tell_contents(input: &DicomInput, console: &Console) {
    let (root, found) = (input.root().display(), input.headers());
    let counted = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(kind, n)| format!("{n} × {kind}")).collect::<Vec<_>>().join(", ")
    };
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for series in found.studies.iter().flat_map(|s| &s.left_out) {
        *left_out.entry(series.kind.name().to_owned()).or_default() += series.instances;
    }
    for (kind, n) in &found.other_files {
        *left_out.entry(format!("{kind} (no DICOM)")).or_default() += n;
    }
    if !left_out.is_empty() {
        console.note(format!("{root}: left out: {}", counted(&left_out)));
    }
    let mut unreadable: BTreeMap<String, usize> = BTreeMap::new();
    for error in &found.unreadable {
        *unreadable.entry(error.kind.name().to_owned()).or_default() += 1;
    }
    if !unreadable.is_empty() {
        console.warning(format!("{root}: DICOM files that are refused: {}", counted(&unreadable)));
    }
}
