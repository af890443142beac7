//! `host self-test`: does this installation work, and how fast is it? One screen.

use crate::console::Console;
use crate::options::BackboneOptions;
use crate::outcome::{CommandError, Outcome};
use crate::text::table;
use anymc3d_host::backbone::{Backbone, Kernels, Precision};
use anymc3d_host::engine::golden::TOLERANCE;
use anymc3d_host::engine::{Case, Engine, PrecisionChoice, precision_name};
use anymc3d_host::phantom::{self, PhantomCase};
use anymc3d_host::plugin::find;
use anymc3d_host::scan::{Affine, Scan};
use anymc3d_host::task::LoadedTask;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  host self-test
  host self-test --json";

/// Predict synthetic scans with the plugins that ship, and compare with the logits of the developers' machine
///
/// The scans are made on the spot, bit for bit the same on every machine. The comparison is in f32.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct SelfTest {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// Logits of the developers' machine, by plugin: `host self-test --json` there, in f32.
const EXPECTED: &str = include_str!("self_test.json");

/// What a plugin gave there.
#[derive(Debug, Deserialize)]
struct Expected {
    /// Seed of the phantom; its index is 0.
    seed: u64,
    weights_sha256: String,
    logits: BTreeMap<String, f64>,
}

/// What a plugin gives here.
#[derive(Debug, Serialize)]
struct Tried {
    plugin: String,
    library: PathBuf,
    weights_sha256: String,
    logits: BTreeMap<String, f64>,
    /// Largest difference of a logit; none where the weights are not those that ship.
    difference: Option<f64>,
    /// Why there is none, or what is wrong.
    note: Option<String>,
    slices: usize,
    /// Of a case whose scan is in memory, in f32 and in what `host run` computes in.
    seconds: BTreeMap<&'static str, f64>,
}

impl Tried {
    fn fails(&self) -> bool {
        self.difference.is_none_or(|difference| difference > TOLERANCE) && self.note.is_none()
    }
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    host: &'static str,
    works: bool,
    backbone: String,
    kernels: String,
    threads: usize,
    backbone_seconds: f64,
    plugins: Vec<Tried>,
    /// Plugins that ship and are not here, or are refused.
    missing: BTreeMap<String, String>,
}

impl SelfTest {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.backbone.apply()?;
        let expected: BTreeMap<String, Expected> = serde_json::from_str(EXPECTED)
            .map_err(|e| CommandError::failed(format!("self_test.json: {e}")))?;
        let began = Instant::now();
        let exact = self.backbone.open(Precision::F32)?;
        let backbone_seconds = began.elapsed().as_secs_f64();
        let usual = PrecisionChoice::Auto.resolve(self.backbone.device);
        let fast = match usual {
            Precision::F32 => None,
            other => Some(self.backbone.open(other)?),
        };
        let backbone = exact.info().name.clone();
        let (mut plugins, mut missing) = (Vec::new(), BTreeMap::new());
        let (mut exact, mut fast) = (Some(exact), fast);
        for (name, expected) in &expected {
            match tried(name, expected, &mut exact, &mut fast, usual) {
                Ok(tried) => plugins.push(tried),
                Err(why) => drop(missing.insert(name.clone(), why)),
            }
        }
        let report = Report {
            schema: "anymc3d/self-test/1",
            host: env!("CARGO_PKG_VERSION"),
            works: missing.is_empty() && !plugins.iter().any(Tried::fails),
            backbone,
            kernels: Kernels::detect().map_or_else(|e| e.to_string(), |kernels| kernels.to_string()),
            threads: rayon::current_num_threads(),
            backbone_seconds,
            plugins,
            missing,
        };
        match self.json {
            true => console.result(serde_json::to_string(&report).map_err(CommandError::failed)?),
            false => console.result(screen(&report)),
        }
        Ok(if report.works { Outcome::Done } else { Outcome::Failed })
    }
}

/// One plugin on its phantom.
fn tried(
    name: &str,
    expected: &Expected,
    exact: &mut Option<Backbone>,
    fast: &mut Option<Backbone>,
    usual: Precision,
) -> Result<Tried, String> {
    let case = phantom::generate(name, expected.seed, 0).map_err(|e| e.to_string())?;
    let library = find::library(name).map_err(|e| e.to_string())?;
    let mut seconds = BTreeMap::new();
    let mut answer = None;
    for (place, precision) in [(exact, Precision::F32), (fast, usual)] {
        let Some(backbone) = place.take() else { continue };
        let task = LoadedTask::open_found(&library, None, &backbone, false);
        let task = match task {
            Ok(task) => task,
            Err(e) => {
                *place = Some(backbone);
                return Err(e.to_string());
            }
        };
        let engine = Engine::new(backbone, precision, vec![task]);
        let result = answered(&engine, &case);
        let weights = engine.tasks()[0].weights_sha256.clone();
        *place = std::sync::Arc::into_inner(engine.into_backbone());
        let (logits, slices, took) = result?;
        seconds.insert(precision_name(precision), took);
        answer.get_or_insert((logits, slices, weights));
    }
    let (logits, slices, weights_sha256) = answer.ok_or("no backbone")?;
    let same = weights_sha256 == expected.weights_sha256;
    let difference = same.then(|| {
        let of = |(label, expected): (&String, &f64)| {
            logits.get(label).map_or(f64::INFINITY, |found| (found - expected).abs())
        };
        expected.logits.iter().map(of).fold(0.0, f64::max)
    });
    let note = (!same).then(|| "other weights than those that ship: not compared".to_owned());
    Ok(Tried { plugin: name.to_owned(), library, weights_sha256, logits, difference, note, slices, seconds })
}

/// Logits by label, slices, and seconds of the second of two runs: the first one warms up.
fn answered(engine: &Engine, phantom: &PhantomCase) -> Result<(BTreeMap<String, f64>, usize, f64), String> {
    let mut case = Case { name: phantom.name.clone(), ..Case::default() };
    let mut scans = Vec::new();
    for image in &phantom.images {
        let path = Path::new(&phantom.name).join(image.sequence.unwrap_or("image"));
        let voxels = image.voxels.iter().map(|v| f32::from(*v)).collect();
        let scan = Scan::from_voxels(&path, voxels, phantom.shape, Affine(phantom.affine));
        scans.push((path.clone(), scan.map_err(|e| e.to_string())?));
        match image.sequence {
            Some(sequence) => drop(case.views.insert(sequence.to_owned(), path)),
            None => case.image = Some(path),
        }
    }
    let mut last = None;
    for _ in 0..2 {
        let mut data = engine.case_data();
        for (path, scan) in &scans {
            data.put_scan(path, scan.clone()).map_err(|e| e.to_string())?;
        }
        let began = Instant::now();
        let mut given = None;
        engine.predict_from(data, (&case, false), &[0], |_, _| (), |_, answer| given = Some(answer));
        let seconds = began.elapsed().as_secs_f64();
        let result = given.ok_or("no answer came")?.map_err(|e| e.to_string())?.result;
        let logits = result.predictions.iter().map(|p| (p.label.clone(), p.logit)).collect();
        last = Some((logits, result.views.iter().map(|v| v.slices).sum(), seconds));
    }
    last.ok_or_else(|| "no answer came".to_owned())
}

fn screen(report: &Report) -> String {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let mut rows = vec![
        vec![
            "host".to_owned(),
            report.host.to_owned(),
            format!("{target}, {} threads, {}", report.threads, report.kernels),
        ],
        vec![
            "backbone".to_owned(),
            report.backbone.clone(),
            format!("opened in {:.2} s", report.backbone_seconds),
        ],
    ];
    for tried in &report.plugins {
        let verdict = match (&tried.note, tried.difference) {
            (Some(note), _) => note.clone(),
            (None, Some(d)) if d <= TOLERANCE => format!("as expected (largest difference {d:.0e})"),
            (None, difference) => format!(
                "DIFFERS by {:.1e}, expected at most {TOLERANCE:.0e}",
                difference.unwrap_or(f64::INFINITY)
            ),
        };
        let speed: Vec<String> = tried.seconds.iter().map(|(of, s)| format!("{s:.2} s ({of})")).collect();
        let speed = format!("{} slices in {}", tried.slices, speed.join(", "));
        rows.push(vec!["plugin".to_owned(), tried.plugin.clone(), format!("{verdict}; {speed}")]);
    }
    for (name, why) in &report.missing {
        rows.push(vec!["plugin".to_owned(), name.clone(), format!("MISSING: {why}")]);
    }
    let end = match report.works {
        true => "This installation works.",
        false => "This installation does not work as it should.",
    };
    format!("{}\n{end}", table(&rows))
}
