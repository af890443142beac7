//! DICOM as input: one case per study, named by a hash, its views filled by the series that fit.

use super::InputError;
use super::unanswered::Unanswered;
use crate::engine::Case;
use crate::output::{random_salt, salt_of_folder};
use crate::run::events::{Events, Notice};
use crate::run::inputs::notice::InputNotice;
use crate::scan::dicom::{DicomInput, SeriesPick, ViewFill, case_id};
use anymc3d_manifest::Manifest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where the salt of the names comes from.
#[derive(Debug)]
enum Salt {
    /// No hash: the identity itself.
    Identity,
    Random,
    Folder(PathBuf),
    Given(Vec<u8>),
}

/// How cases of DICOM studies are named: `Default` is by a hash that only this call can make.
#[derive(Debug)]
pub struct StudyNames {
    salt: Salt,
    /// Made for the first study.
    made: OnceLock<Vec<u8>>,
}

impl Default for StudyNames {
    fn default() -> Self {
        Self::of(Salt::Random)
    }
}

impl StudyNames {
    fn of(salt: Salt) -> Self {
        Self { salt, made: OnceLock::new() }
    }

    /// By PatientID and StudyInstanceUID. Every other choice writes no identity anywhere.
    pub fn with_identity() -> Self {
        Self::of(Salt::Identity)
    }

    /// By a hash of the study with a secret; [`crate::output::salt_of_file`] reads one.
    pub fn with_salt(salt: Vec<u8>) -> Self {
        Self::of(Salt::Given(salt))
    }

    /// By a hash with the secret of an output folder, which is made for the first study if the folder has none.
    pub fn with_salt_of_folder(folder: impl Into<PathBuf>) -> Self {
        Self::of(Salt::Folder(folder.into()))
    }

    /// The name of a study's case; `study` is its index in [`DicomInput::headers`].
    ///
    /// # Errors
    /// [`InputError::Salt`], [`InputError::Random`].
    ///
    /// # Panics
    /// Where there is no study of that index.
    pub fn name(&self, input: &DicomInput, study: usize) -> Result<String, InputError> {
        let of = &input.headers().studies[study];
        let made = match &self.salt {
            Salt::Identity => {
                let id = of.patient_id.as_ref().map_or("unknown", |id| id.reveal());
                let plain =
                    |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
                let name = format!("{id}-{}", of.uid).chars().map(plain).collect::<String>();
                return Ok(name.replace("..", "__"));
            }
            Salt::Given(salt) => salt,
            _ if self.made.get().is_some() => self.made.get_or_init(Vec::new),
            Salt::Random => {
                let salt = random_salt().map_err(InputError::Random)?;
                self.made.get_or_init(|| salt)
            }
            Salt::Folder(folder) => {
                let unusable = |source| InputError::Salt { folder: folder.clone(), source };
                let salt = salt_of_folder(folder).map_err(unusable)?;
                self.made.get_or_init(|| salt)
            }
        };
        Ok(case_id(made, &of.uid))
    }
}

/// Studies of the inputs so far.
pub(super) struct Studies<'a> {
    pub tasks: &'a [Manifest],
    pub picks: &'a [(Option<String>, SeriesPick)],
    pub names: &'a StudyNames,
    pub events: &'a dyn Events,
    /// Studies that no plugin answers: input and reason.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Studies<'_> {
    fn tell(&self, notice: InputNotice) {
        self.events.notice(&Notice::Input(notice));
    }

    /// The cases of an input: one per study that some plugin answers. What is chosen is told view by view.
    pub fn cases(
        &mut self,
        input: &DicomInput,
        unanswered: &mut Unanswered,
    ) -> Result<Vec<Case>, InputError> {
        self.tell_contents(input);
        let root = input.root();
        let mut cases = Vec::new();
        if input.studies().is_empty() {
            let line = format!("{}: no DICOM file in it makes a study; see `host doctor`", root.display());
            self.skipped.push((root.to_path_buf(), line));
        }
        for study in input.studies() {
            let name = self.names.name(input, study)?;
            let mut case = Case { name: name.clone(), ..Case::default() };
            let mut unfit = Vec::new();
            for manifest in self.tasks {
                let plugin = &manifest.plugin.name;
                match input.fill(study, manifest, self.picks) {
                    Ok(fills) => fills.into_iter().for_each(|fill| self.take(fill, plugin, &mut case)),
                    Err(e) => unfit.push((plugin, format!("view {}: {}", e.view, e.reason))),
                }
            }
            if case.views.is_empty() {
                let reasons: Vec<String> = unfit.iter().map(|(p, reason)| format!("{p}: {reason}")).collect();
                let line = format!("{}: study {name} is skipped: {}", root.display(), reasons.join("; "));
                self.skipped.push((root.to_path_buf(), line));
                continue;
            }
            for (plugin, reason) in unfit {
                unanswered.skip(&name, plugin);
                self.tell(InputNotice::NoSeries { case: name.clone(), plugin: plugin.clone(), reason });
            }
            cases.push(case);
        }
        Ok(cases)
    }

    fn take(&self, fill: ViewFill, plugin: &str, case: &mut Case) {
        let ViewFill { view, path, why, warnings } = fill;
        case.views.insert(Case::own(plugin, &view), path);
        let of = || (case.name.clone(), plugin.to_owned(), view.clone());
        let (name, to, of_view) = of();
        self.tell(InputNotice::SeriesChosen { case: name, plugin: to, view: of_view, why });
        for rule in warnings {
            let (case, plugin, view) = of();
            self.tell(InputNotice::RuleBroken { case, plugin, view, rule });
        }
    }

    /// What is no series of slices, and files that could not be read.
    fn tell_contents(&self, input: &DicomInput) {
        let found = input.headers();
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        for series in found.studies.iter().flat_map(|s| &s.left_out) {
            *left_out.entry(series.kind.name().to_owned()).or_default() += series.instances;
        }
        for (kind, n) in &found.other_files {
            *left_out.entry(format!("{kind} (no DICOM)")).or_default() += n;
        }
        let mut unreadable: BTreeMap<String, usize> = BTreeMap::new();
        for error in &found.unreadable {
            *unreadable.entry(error.kind.name().to_owned()).or_default() += 1;
        }
        let root = || input.root().to_path_buf();
        if !left_out.is_empty() {
            self.tell(InputNotice::LeftOut { root: root(), kinds: left_out });
        }
        if !unreadable.is_empty() {
            self.tell(InputNotice::Unreadable { root: root(), kinds: unreadable });
        }
    }

    /// Tells what was skipped, each in a line; where nothing else is left to do, gives it back as the input's failure.
    pub fn skipped(&mut self, any_case: bool) -> Option<(PathBuf, InputError)> {
        let skipped = std::mem::take(&mut self.skipped);
        if any_case {
            for (_, reason) in skipped {
                self.tell(InputNotice::StudySkipped { reason });
            }
            return None;
        }
        let path = skipped.first()?.0.clone();
        let reasons = skipped.into_iter().map(|(_, reason)| reason).collect();
        Some((path, InputError::NoStudy { reasons }))
    }
}
