//! Counters as Prometheus reads them, text format 0.0.4.

use super::{BUCKETS, Counts, Histogram};
use anymc3d_host::memory::{resident, resident_of};
use std::fmt::{Display, Write};

/// A sample's labels, as they stand between braces, and its value.
type Sample = (String, String);

#[derive(Default)]
struct Families(String);

impl Families {
    fn add(&mut self, (name, kind): (&str, &str), help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.head((name, kind), help);
        samples.into_iter().for_each(|sample| self.sample(name, sample));
    }

    /// A family without labels.
    fn one(&mut self, family: (&str, &str), help: &str, value: impl Display) {
        self.add(family, help, [(String::new(), value.to_string())]);
    }

    fn head(&mut self, (name, kind): (&str, &str), help: &str) {
        let _ = writeln!(self.0, "# HELP anymc3d_{name} {help}\n# TYPE anymc3d_{name} {kind}");
    }

    fn sample(&mut self, name: &str, (labels, value): Sample) {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "anymc3d_{name}{labels} {value}");
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (&'a String, &'a Histogram)>,
    ) {
        self.head((name, "histogram"), help);
        for (plugin, histogram) in all {
            let mut below = 0;
            for (end, count) in BUCKETS.iter().zip(histogram.buckets) {
                below += count;
                let labels = format!("{},le=\"{end}\"", of_plugin(plugin));
                self.sample(&format!("{name}_bucket"), (labels, below.to_string()));
            }
            let labels = format!("{},le=\"+Inf\"", of_plugin(plugin));
            self.sample(&format!("{name}_bucket"), (labels, histogram.count.to_string()));
            self.sample(&format!("{name}_sum"), (of_plugin(plugin), histogram.sum.to_string()));
            self.sample(&format!("{name}_count"), (of_plugin(plugin), histogram.count.to_string()));
        }
    }
}

/// A plugin's name is letters, digits and `_`.
fn of_plugin(name: &str) -> String {
    format!("plugin=\"{name}\"")
}

/// By plugin and a second label.
fn by<'a, V: Display + 'a>(
    second: &'a str,
    all: impl IntoIterator<Item = (&'a (String, &'static str), &'a V)> + 'a,
) -> impl Iterator<Item = Sample> + 'a {
    all.into_iter().map(move |((plugin, value), n)| {
        (format!("{},{second}=\"{value}\"", of_plugin(plugin)), n.to_string())
    })
}

pub(super) fn of(c: &Counts, waiting: usize, models: &[(String, bool)]) -> String {
    let mut all = Families::default();
    all.one(("queue_waiting", "gauge"), "Jobs and requests that wait.", waiting);
    all.one(("resident_bytes", "gauge"), "Memory of the server's own process.", resident().unwrap_or(0));
    let plugins: usize = c.processes.iter().filter_map(|id| resident_of(*id)).sum();
    all.one(("plugins_resident_bytes", "gauge"), "Memory of the plugins' processes.", plugins);
    let ready = models.iter().map(|(name, ready)| (of_plugin(name), u8::from(*ready).to_string()));
    all.add(("plugin_ready", "gauge"), "Whether a plugin answers.", ready);
    let requests = c.requests.iter();
    let requests = requests
        .map(|((route, status), n)| (format!("route=\"{route}\",status=\"{status}\""), n.to_string()));
    all.add(("requests_total", "counter"), "Requests by route and status.", requests);
    let jobs = c.jobs.iter().map(|(state, n)| (format!("state=\"{state}\""), n.to_string()));
    all.add(("jobs_total", "counter"), "Ended jobs.", jobs);
    let help = "Answers and failures of plugins.";
    all.add(("answers_total", "counter"), help, by("outcome", &c.answers));
    all.add(("stage_seconds_total", "counter"), "Seconds by plugin and stage.", by("stage", &c.stages));
    all.histogram("answer_seconds", "Seconds from a case's turn to a plugin's answer.", &c.seconds);
    let faults = c.faults.iter().map(|(plugin, n)| (of_plugin(plugin), n.to_string()));
    all.add(("plugin_faults_total", "counter"), "Processes that a plugin ended.", faults);
    let help = "Passes of a scan's slices through a backbone.";
    all.one(("backbone_passes_total", "counter"), help, c.passes.own);
    let help = "Answers that took frozen blocks, or all, from another answer's pass.";
    all.one(("shared_passes_total", "counter"), help, c.passes.shared);
    let compared = c.novelty.iter().map(|(plugin, n)| (of_plugin(plugin), n.compared.to_string()));
    let help = "Results that were compared with the plugin's training cases.";
    all.add(("novelty_results_total", "counter"), help, compared);
    let outside = c.novelty.iter().map(|(plugin, n)| (of_plugin(plugin), n.outside.to_string()));
    let help = "Results farther from the training cases than 99.5 % of these.";
    all.add(("novelty_outside_total", "counter"), help, outside);
    let last = c.novelty.iter().map(|(plugin, n)| (of_plugin(plugin), n.last.to_string()));
    let help = "Distance of the last result from the training cases.";
    all.add(("novelty_distance", "gauge"), help, last);
    all.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_all_that_are_below_their_end() {
        let mut counts = Counts::default();
        for seconds in [0.05, 0.3, 0.5, 70.0] {
            counts.seconds.entry("p".to_owned()).or_default().add(seconds);
        }
        let text = of(&counts, 3, &[("p".to_owned(), true)]);
        for line in [
            "anymc3d_queue_waiting 3",
            "anymc3d_plugin_ready{plugin=\"p\"} 1",
            "# TYPE anymc3d_answer_seconds histogram",
            "anymc3d_answer_seconds_bucket{plugin=\"p\",le=\"0.1\"} 1",
            "anymc3d_answer_seconds_bucket{plugin=\"p\",le=\"0.5\"} 3",
            "anymc3d_answer_seconds_bucket{plugin=\"p\",le=\"60\"} 3",
            "anymc3d_answer_seconds_bucket{plugin=\"p\",le=\"+Inf\"} 4",
            "anymc3d_answer_seconds_sum{plugin=\"p\"} 70.85",
            "anymc3d_answer_seconds_count{plugin=\"p\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
