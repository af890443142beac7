//! The options of commands that open a session: which plugins, how they run, and what is written beside each result.

use super::console::Console;
use super::dicom::DicomOptions;
use super::options::{self, BackboneOptions, GeometryOption, PrecisionOption};
use super::outcome::CommandError;
#[cfg(unix)]
use super::worker;
use anymc3d_host::engine::{MemoryCap, provenance};
use anymc3d_host::memory;
use anymc3d_host::output::{DicomWriter, ReportWriter, ResultWriter, standard_writers};
use anymc3d_host::plugin::find::Choice;
#[cfg(unix)]
use anymc3d_host::run::{Isolation, isolate::Limits};
use anymc3d_host::run::{Session, SessionOptions};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Which plugins, and how they run.
#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    /// Plugin, by name or path; repeat the option for more plugins
    #[arg(long, short, value_name = "P", required = true)]
    pub plugin: Vec<String>,
    /// Trained weights, if one plugin is given; several, separated by commas, are an ensemble whose logits are averaged
    /// [default: the file beside the library, else the installed one]
    #[arg(long, value_name = "FILE,…", value_delimiter = ',')]
    pub weights: Vec<PathBuf>,
    /// Run the plugin's segmentation decoder and print the volume it segments; with --out also write segmentation.nii.gz
    /// on the scan's grid: 1 where the probability is 0.5 or more. With several views the decoder segments the first that
    /// has a file. A plugin without a decoder gives a warning and no mask
    #[arg(long)]
    pub segmentation: bool,
    /// Number format of the matrix products; auto is bf16 where the device multiplies it faster than f32, else f32, and int8 of a backbone that `host backbone quantise` found near enough. docs/performance.md compares them
    #[arg(long, value_enum, default_value_t = PrecisionOption::Auto)]
    precision: PrecisionOption,
    /// Merge so many tokens of each slice away in each block of the backbone but the last, two that say the same into one: faster,
    /// and not the same answer. docs/performance.md says how far off [default: as the plugin's manifest says]
    #[arg(long, value_name = "TOKENS")]
    merge: Option<usize>,
    /// Lock file that says which installed version runs [default: anymc3d.lock, if it exists]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Run an installed version that its publisher withdrew for safety
    #[arg(long)]
    allow_yanked: bool,
    /// Run the plugins in a child process. If a plugin crashes, exits or never returns, only the child ends: the host
    /// names the plugin, leaves it out from then on, and restarts the child for the other plugins
    #[arg(long)]
    pub isolate: bool,
    /// How many cases in a row may end a plugin's process before it is left out; one where nobody says otherwise.
    #[arg(skip = 1u32)]
    pub faults: u32,
    /// Longest time a plugin may take to open, and per case; needs --isolate [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_limit: Option<u64>,
    /// Most memory for the process, for example 2G: the host reads scans one after the other and refuses a scan that would
    /// need more. With --isolate it limits the address space of the plugins' process, which ends if a plugin asks for more
    /// [default: the lowest of 80 % of the machine's memory, the control group's limit and RLIMIT_AS; see `host doctor`]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    max_memory: Option<usize>,
    /// Also store in every result a digest that stands for this machine, or the account that ran it
    #[arg(long, value_name = "machine,user", value_enum, value_delimiter = ',')]
    record: Vec<RecordOption>,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// `--record`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RecordOption {
    /// A digest of the machine's id
    Machine,
    /// The account's name
    User,
}

impl SessionArgs {
    /// Sets up the process; before anything is opened.
    pub fn prepare(&self) -> Result<(), CommandError> {
        if !self.weights.is_empty() && self.plugin.len() > 1 {
            return Err(CommandError::usage("--weights belongs to one plugin; give one --plugin with it"));
        }
        if self.time_limit.is_some() && !self.isolate {
            return Err(CommandError::usage(
                "--time-limit: nothing ends a plugin in this process; give --isolate with it",
            ));
        }
        memory::give(self.max_memory);
        self.geometry.apply();
        let wants = |what: RecordOption| self.record.contains(&what);
        provenance::record(wants(RecordOption::Machine), wants(RecordOption::User));
        self.backbone.apply()
    }

    /// How the library is asked to open the session.
    pub fn options(&self, console: &Console) -> Result<SessionOptions, CommandError> {
        // Not used where there are no other processes.
        let _ = console;
        let mut options = SessionOptions::default();
        options.backbone.clone_from(&self.backbone.backbone);
        options.device = self.backbone.device;
        options.device_memory = self.max_memory;
        options.precision = self.precision.choice();
        options.weights.clone_from(&self.weights);
        options.choice = Choice { lock: self.lock.clone(), allow_yanked: self.allow_yanked };
        options.segmentation = self.segmentation;
        options.merge = self.merge;
        #[cfg(unix)]
        if self.isolate {
            options.threads = self.backbone.threads.number();
            options.isolation = Some(Isolation {
                limits: Limits {
                    time: std::time::Duration::from_secs(self.time_limit.unwrap_or(300)),
                    faults: self.faults,
                },
                max_memory: options::memory_limit(self.max_memory),
                micro_ct: self.geometry.micro_ct,
                spawn: worker::spawn(console),
            });
        }
        #[cfg(not(unix))]
        if self.isolate {
            let message =
                "--isolate: this build has no processes to isolate in; it is there on Linux and macOS";
            return Err(CommandError::usage(message));
        }
        Ok(options)
    }

    /// Lets the engine know what writing will take.
    pub fn cap(
        &self,
        session: &mut Session,
        writers: &[Arc<dyn ResultWriter>],
        heatmap: bool,
        written: bool,
    ) -> Result<(), CommandError> {
        if !session.engines().is_empty() {
            let cap = MemoryCap::of_process().map_err(CommandError::failed)?;
            let most = writers.iter().map(|w| w.bytes_per_voxel()).max().unwrap_or(0);
            let cap = cap.writing(heatmap, written && self.segmentation).writing_of_a_voxel(most);
            session.engines().iter_mut().for_each(|engine| engine.cap(cap));
        }
        Ok(())
    }
}

/// What is written beside each result.
#[derive(Debug, Args)]
pub(super) struct WriterOptions {
    /// Write heatmap and preview beside each result [default: true with --out]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub heatmap: Option<bool>,
    /// Also write each result of a DICOM series as DICOM objects, to DIR/<case>/<plugin>/dicom: sr.dcm (TID 1500 report),
    /// heatmap.dcm (parametric map on the series' frames), preview.dcm (secondary capture), and with --segmentation
    /// segmentation.dcm. They carry the patient and study of the series; nothing else that is written does
    #[arg(long, requires = "out")]
    pub dicom_out: bool,
    /// Also write DIR/<case>/<plugin>/report.html, one page that needs no network: answer, scan with heat in three planes, what
    /// was done to the scan, versions and digests. A patient's name stands in it only with --keep-identity
    #[arg(long, requires = "out")]
    pub report: bool,
}

impl WriterOptions {
    /// Whether heatmaps are written; `written` says that there is a folder for them.
    pub fn heatmaps(&self, written: bool) -> bool {
        written && self.heatmap.unwrap_or(true)
    }

    /// The writers.
    pub fn writers(&self, written: bool, dicom: &DicomOptions) -> Vec<Arc<dyn ResultWriter>> {
        let mut writers = standard_writers(self.heatmaps(written));
        if self.dicom_out {
            writers.push(Arc::new(DicomWriter));
        }
        if self.report {
            writers.push(Arc::new(ReportWriter::new(dicom.keeps_identity())));
        }
        writers
    }

    /// Options on which results depend, for `DIR` to be continued with the same.
    pub fn result_options(&self, session: &SessionArgs, dicom: &DicomOptions) -> BTreeMap<String, Value> {
        let mut options = BTreeMap::from([
            ("heatmap".to_owned(), json!(self.heatmaps(true))),
            ("dicom-out".to_owned(), json!(self.dicom_out)),
            ("report".to_owned(), json!(self.report)),
            ("segmentation".to_owned(), json!(session.segmentation)),
        ]);
        if let Some(merge) = session.merge {
            options.insert("merge".to_owned(), json!(merge));
        }
        options.extend(session.geometry.result_options());
        options.extend(dicom.result_options());
        options
    }
}
