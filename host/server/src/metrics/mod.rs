//! `/metrics`: counters in the text format of Prometheus.

mod text;

use anymc3d_host::engine::Passes;
use anymc3d_host::engine::result::CaseResult;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Upper ends of the histogram's buckets, seconds.
const BUCKETS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How long answers took.
#[derive(Debug, Default)]
struct Histogram {
    /// In each bucket alone; beyond the last in none.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        if let Some(at) = BUCKETS.iter().position(|end| seconds <= *end) {
            self.buckets[at] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// Results that were compared with training cases.
#[derive(Debug, Default)]
struct NoveltyCounts {
    compared: u64,
    outside: u64,
    /// Distance of the last.
    last: f64,
}

/// What is counted.
#[derive(Default)]
struct Counts {
    /// By route and status.
    requests: BTreeMap<(String, u16), u64>,
    /// Ended jobs by state.
    jobs: BTreeMap<&'static str, u64>,
    /// By plugin and outcome: answered, failed.
    answers: BTreeMap<(String, &'static str), u64>,
    /// Seconds by plugin and stage.
    stages: BTreeMap<(String, &'static str), f64>,
    /// Seconds of answers, by plugin.
    seconds: BTreeMap<String, Histogram>,
    /// Processes that a plugin ended.
    faults: BTreeMap<String, u64>,
    /// By plugin.
    novelty: BTreeMap<String, NoveltyCounts>,
    /// Through the backbones.
    passes: Passes,
    /// The plugins' processes.
    processes: Vec<u32>,
    /// Mean seconds of the last works, for [`Metrics::seconds_each`].
    each: f64,
}

/// The counters of a server.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<Counts>);

impl Metrics {
    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn request(&self, route: &str, status: u16) {
        self.with(|c| *c.requests.entry((route.to_owned(), status)).or_default() += 1);
    }

    pub fn job(&self, state: &'static str) {
        self.with(|c| *c.jobs.entry(state).or_default() += 1);
    }

    /// A plugin's answer that some work gets, or its failure.
    pub fn answer(&self, plugin: &str, outcome: &'static str) {
        self.with(|c| *c.answers.entry((plugin.to_owned(), outcome)).or_default() += 1);
    }

    /// A result that was computed.
    pub fn result(&self, plugin: &str, result: &CaseResult) {
        let timing = &result.timing_ms;
        let segmentation = timing.segmentation.unwrap_or(0.0);
        let told = timing.read + timing.preprocess + timing.backbone + timing.head + segmentation;
        let stages = [
            ("read", timing.read),
            ("preprocess", timing.preprocess),
            ("backbone", timing.backbone),
            ("head", timing.head),
            ("segmentation", segmentation),
            ("other", (timing.total - told).max(0.0)),
        ];
        self.with(|c| {
            for (stage, ms) in stages {
                *c.stages.entry((plugin.to_owned(), stage)).or_default() += ms / 1e3;
            }
            c.seconds.entry(plugin.to_owned()).or_default().add(timing.total / 1e3);
            if let Some(novelty) = &result.novelty {
                let counts = c.novelty.entry(plugin.to_owned()).or_default();
                counts.compared += 1;
                counts.outside += u64::from(novelty.outside);
                counts.last = novelty.distance;
            }
        });
    }

    pub fn fault(&self, plugin: &str) {
        self.with(|c| *c.faults.entry(plugin.to_owned()).or_default() += 1);
    }

    /// Passes through the backbones.
    pub fn passes(&self, passes: Passes) {
        self.with(|c| c.passes += passes);
    }

    /// Answers that were computed for another work of the same scan.
    pub fn shared(&self, answers: usize) {
        self.with(|c| c.passes.shared += answers);
    }

    /// The plugins' processes as they are now.
    pub fn processes(&self, ids: Vec<u32>) {
        self.with(|c| c.processes = ids);
    }

    /// A work took so many seconds of the engine.
    pub fn took(&self, seconds: f64) {
        self.with(|c| c.each = if c.each == 0.0 { seconds } else { 0.8 * c.each + 0.2 * seconds });
    }

    /// What a work takes about, in seconds.
    pub fn seconds_each(&self) -> f64 {
        self.with(|c| c.each)
    }

    /// As Prometheus reads it. `waiting`: works in the queue. `models`: name, and whether it is ready.
    pub fn text(&self, waiting: usize, models: &[(String, bool)]) -> String {
        self.with(|counts| text::of(counts, waiting, models))
    }
}
