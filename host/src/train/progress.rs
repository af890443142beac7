//! Who hears of a training run while it goes on.

use super::record::EpochRecord;

/// Told of everything that happens in a run.
pub trait Progress {
    /// A run of so many cases, all epochs together, begins; so many of them were done in earlier sittings.
    fn begin(&mut self, cases: u64, done: u64);
    /// Before the first epoch: so many of the `cases` are read, and their frozen features are computed. Only for a head that
    /// has to know all of them before the first step.
    fn read(&mut self, done: u64, cases: u64);
    /// A training case is done.
    fn case(&mut self, epoch: usize, loss: f64);
    /// An epoch is done.
    fn epoch(&mut self, record: &EpochRecord, best: bool);
    /// Whether the run is to end, with [`super::TrainError::Cancelled`]. It is asked before each case; what is on disk is the
    /// last whole epoch, from which the run can be resumed.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: u64, _: u64) {}
    fn read(&mut self, _: u64, _: u64) {}
    fn case(&mut self, _: usize, _: f64) {}
    fn epoch(&mut self, _: &EpochRecord, _: bool) {}
}
