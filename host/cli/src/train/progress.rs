//! What a person sees of a training run: loss and time left on a terminal, a line per epoch anywhere else.

use anymc3d_host::train::{EpochRecord, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

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
            // The time left is estimated from this process alone, not from the epochs before --resume.
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
