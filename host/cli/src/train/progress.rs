//! What a person sees of a training run: loss and time left on a terminal; anywhere else a line every half minute and one per
//! epoch.

use crate::count::{PACE, duration};
use anymc3d_host::train::{EpochRecord, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// A bar on a terminal, lines elsewhere; on stderr.
#[derive(Default)]
pub struct Terminal {
    bar: Option<ProgressBar>,
    lines: Option<Lines>,
    mean: f64,
}

impl Progress for Terminal {
    fn begin(&mut self, cases: u64, done: u64) {
        if !std::io::stderr().is_terminal() {
            self.lines = Some(Lines::begin(cases, done, Instant::now()));
            return;
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} cases, {eta} left");
        let bar = ProgressBar::new(cases);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        // The time left is estimated from this process alone, not from the epochs before --resume.
        bar.set_position(done);
        bar.reset_eta();
        self.bar = Some(bar);
    }

    fn read(&mut self, done: u64, cases: u64) {
        if !std::io::stderr().is_terminal() {
            let lines = self.lines.get_or_insert_with(|| Lines::begin(cases, 0, Instant::now()));
            if let Some(line) = lines.read(Instant::now()) {
                eprintln!("{line}");
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("reading {wide_bar} {pos}/{len} cases, {eta} left");
            let bar = ProgressBar::new(cases);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        bar.set_position(done);
        if done == cases {
            bar.finish_and_clear();
        }
    }

    fn case(&mut self, epoch: usize, loss: f64) {
        self.mean = if self.mean == 0.0 { loss } else { 0.98 * self.mean + 0.02 * loss };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("epoch {epoch}, loss {:.4}", self.mean));
            bar.inc(1);
        }
        if let Some(line) = self.lines.as_mut().and_then(|lines| lines.case(epoch, self.mean, Instant::now()))
        {
            eprintln!("{line}");
        }
    }

    fn epoch(&mut self, r: &EpochRecord, best: bool) {
        let segmentation = r.segmentation_loss.map(|l| format!(", segmentation {l:.4}")).unwrap_or_default();
        let auroc = r.val_auroc.map_or("-".to_owned(), |a| format!("{a:.4}"));
        let line = format!(
            "epoch {:>3}: loss {:.4}{segmentation}; validation loss {:.4}, AUROC {auroc}{}; {:.0} s",
            r.epoch,
            r.loss,
            r.val_loss,
            if best { " (best)" } else { "" },
            r.seconds
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

/// How far a run is, for lines.
struct Lines {
    cases: u64,
    /// All, and those before this process began.
    done: [u64; 2],
    begun: Instant,
    told: Instant,
}

impl Lines {
    fn begin(cases: u64, done: u64, now: Instant) -> Self {
        Self { cases, done: [done; 2], begun: now, told: now }
    }

    /// A training case is done; the line to print, if it is time for one.
    fn case(&mut self, epoch: usize, loss: f64, now: Instant) -> Option<String> {
        let (done, pace) = self.next(now)?;
        Some(format!("epoch {epoch:>3}: case {done} of {}, loss {loss:.4}, {pace}", self.cases))
    }

    /// A case is read before the first epoch; the line to print, if it is time for one.
    fn read(&mut self, now: Instant) -> Option<String> {
        let (done, pace) = self.next(now)?;
        Some(format!("read {done} of {} cases, {pace}", self.cases))
    }

    /// Counts a case. If it is time for a line: how many are done, how fast, and the time left.
    fn next(&mut self, now: Instant) -> Option<(u64, String)> {
        self.done[0] += 1;
        if now.duration_since(self.told) < PACE {
            return None;
        }
        self.told = now;
        let [done, before] = self.done;
        let each = now.duration_since(self.begun).as_secs_f64() / (done - before) as f64;
        let left = each * self.cases.saturating_sub(done) as f64;
        Some((done, format!("{:.1} cases a minute, {} left", 60.0 / each, duration(left))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn off_a_terminal_a_line_comes_every_half_minute_with_the_time_left_of_this_process() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut lines = Lines::begin(20, 0, begun);
        let told: Vec<String> = (1..=10).filter_map(|n| lines.read(at(4 * n))).collect();
        assert_eq!(told, ["read 8 of 20 cases, 15.0 cases a minute, 48 s left"]);
        // Resumed after 100 of 400 cases; a case every four seconds.
        let mut lines = Lines::begin(400, 100, begun);
        let told: Vec<String> = (1..=16).filter_map(|n| lines.case(2, 0.5, at(4 * n))).collect();
        assert_eq!(
            told,
            [
                "epoch   2: case 108 of 400, loss 0.5000, 15.0 cases a minute, 19 min left",
                "epoch   2: case 116 of 400, loss 0.5000, 15.0 cases a minute, 19 min left"
            ]
        );
    }
}
