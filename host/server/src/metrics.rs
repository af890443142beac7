//! `/metrics`: counters in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

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
    /// Processes that a plugin ended.
    faults: BTreeMap<String, u64>,
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

    pub fn answer(&self, plugin: &str, outcome: &'static str) {
        self.with(|c| *c.answers.entry((plugin.to_owned(), outcome)).or_default() += 1);
    }

    pub fn stages(&self, plugin: &str, timing: &anymc3d_host::engine::result::Timing) {
        let stages = [
            ("read", timing.read),
            ("preprocess", timing.preprocess),
            ("backbone", timing.backbone),
            ("head", timing.head),
        ];
        self.with(|c| {
            for (stage, ms) in stages {
                *c.stages.entry((plugin.to_owned(), stage)).or_default() += ms / 1e3;
            }
        });
    }

    pub fn fault(&self, plugin: &str) {
        self.with(|c| *c.faults.entry(plugin.to_owned()).or_default() += 1);
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
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, String)>| {
            let _ = writeln!(text, "# HELP anymc3d_{name} {help}\n# TYPE anymc3d_{name} {kind}");
            for (labels, value) in samples {
                let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
                let _ = writeln!(text, "anymc3d_{name}{labels} {value}");
            }
        };
        let resident = anymc3d_host::memory::resident().unwrap_or(0);
        family(
            "queue_waiting",
            "gauge",
            "Jobs and requests that wait.",
            vec![(String::new(), waiting.to_string())],
        );
        family(
            "resident_bytes",
            "gauge",
            "Memory of the server's own process.",
            vec![(String::new(), resident.to_string())],
        );
        let ready =
            models.iter().map(|(name, ready)| (format!("plugin=\"{name}\""), u8::from(*ready).to_string()));
        family("plugin_ready", "gauge", "Whether a plugin answers.", ready.collect());
        self.with(|c| {
            let requests = c.requests.iter().map(|((route, status), n)| {
                (format!("route=\"{route}\",status=\"{status}\""), n.to_string())
            });
            family("requests_total", "counter", "Requests by route and status.", requests.collect());
            let jobs = c.jobs.iter().map(|(state, n)| (format!("state=\"{state}\""), n.to_string()));
            family("jobs_total", "counter", "Ended jobs.", jobs.collect());
            let answers = c.answers.iter().map(|((plugin, outcome), n)| {
                (format!("plugin=\"{plugin}\",outcome=\"{outcome}\""), n.to_string())
            });
            family("answers_total", "counter", "Answers and failures of plugins.", answers.collect());
            let stages = c.stages.iter().map(|((plugin, stage), s)| {
                (format!("plugin=\"{plugin}\",stage=\"{stage}\""), s.to_string())
            });
            family("stage_seconds_total", "counter", "Seconds by plugin and stage.", stages.collect());
            let faults = c.faults.iter().map(|(plugin, n)| (format!("plugin=\"{plugin}\""), n.to_string()));
            family("plugin_faults_total", "counter", "Processes that a plugin ended.", faults.collect());
        });
        text
    }
}
