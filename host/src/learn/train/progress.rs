//! What a person sees of a run: loss and time left on a terminal, a line per epoch anywhere else.

use super::record::EpochRecord;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Told of everything that happens in a run.
pub trait Progress {
    /// A run of so many cases, all epochs together, begins; so many of them were done in earlier sittings.
    fn begin(&mut self, cases: u64, done: u64);
    /// A training case is done.
    fn case(&mut self, epoch: usize, loss: f64);
    /// An epoch is done.
    fn epoch(&mut self, record: &EpochRecord, best: bool);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: u64, _: u64) {}
    fn case(&mut self, _: usize, _: f64) {}
    fn epoch(&mut self, _: &EpochRecord, _: bool) {}
}

/// A bar on a terminal, lines elsewhere; on stderr.
#[derive(Default)]
pub struct Terminal {
    bar: Option<ProgressBar>,
    mean: f64,
}

impl Progress for Terminal {
    fn begin(&mut self, cases: u64, done: u64) {
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} cases, {eta} left");
            let bar = ProgressBar::new(cases);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            // The time left is reckoned from this sitting alone.
            bar.set_position(done);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    fn case(&mut self, epoch: usize, loss: f64) {
        self.mean = if self.mean == 0.0 { loss } else { 0.98 * self.mean + 0.02 * loss };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("epoch {epoch}, loss {:.4}", self.mean));
            bar.inc(1);
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
