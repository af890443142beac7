//! A cap on the process's memory: what a case takes is told before it is taken.

use crate::backbone::BackboneInfo;
use crate::memory::{self, Limit, MemoryBudget, Source};
use crate::scan::{SliceStack, memory_of};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Most bytes the process may take, and what it took before the first case.
#[derive(Debug, Clone, Copy)]
pub struct MemoryCap {
    limit: Limit,
    base: usize,
    /// What is written takes this for each voxel of the scan, for a while.
    per_voxel: usize,
}

/// Of a heatmap on the scan's grid, which is made and written a few planes at a time: of a small scan all of them at once.
const HEATMAP_OF_A_VOXEL: usize = 3;
/// Of a mask: its logits on the slices' pixels, and a byte.
const MASK_OF_A_VOXEL: usize = 14;

/// What an engine holds between cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Where: `cpu`, or `cuda:N` and its name.
    pub device: String,
    /// Name of the backbone.
    pub backbone: String,
    /// Bytes of the frozen weights as they are computed with.
    pub backbone_bytes: usize,
    /// Bytes of the parameters of each task, by plugin.
    pub task_bytes: Vec<(String, usize)>,
    /// Bytes that are left for a case's slices on a device of its own; absent on the processor.
    pub free_bytes: Option<usize>,
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        write!(f, "{}: backbone {} {}", self.device, self.backbone, mib(self.backbone_bytes))?;
        for (name, bytes) in &self.task_bytes {
            write!(f, ", {name} {}", mib(*bytes))?;
        }
        match self.free_bytes {
            Some(free) => write!(f, "; {} left for a case", mib(free)),
            None => Ok(()),
        }
    }
}

/// Of each thread, for the activations of the slice that it is at and for products.
const OF_A_THREAD: usize = 24 << 20;

impl MemoryCap {
    /// Of a process whose backbone and tasks are open: what was given as `--max-memory`, else what the system leaves it.
    ///
    /// # Errors
    /// One line with the numbers when they alone take more.
    pub fn of_process() -> Result<Self, String> {
        Self::new(memory::limit(), memory::base())
    }

    fn new(limit: Limit, held: usize) -> Result<Self, String> {
        let base = held.saturating_add(rayon::current_num_threads() * OF_A_THREAD);
        if base < limit.bytes {
            return Ok(Self { limit, base, per_voxel: 0 });
        }
        let (cap, base) = (allowed(limit), mib(base));
        Err(format!("{cap}; backbone and tasks take {base} MiB already; give more, or fewer plugins"))
    }

    /// What a case may take.
    pub fn room(&self) -> MemoryBudget {
        MemoryBudget { bytes: self.limit.bytes - self.base, limit: self.limit }
    }

    /// A quarter of the room: for a case that is read while another is answered.
    pub(super) fn quarter(self) -> Self {
        let bytes = self.base + self.room().bytes / 4;
        Self { limit: Limit { bytes, ..self.limit }, ..self }
    }

    /// Whether a case of these files is large enough to be alone in memory.
    pub(super) fn wants_all<'a>(&self, files: impl Iterator<Item = &'a Path>) -> bool {
        let scans = files.map(of_scan).fold(0, usize::saturating_add);
        // Answering and writing take about as much as reading.
        scans.saturating_mul(2) > self.room().bytes / 2
    }

    /// Whether the user gave the limit, and with it that scans are read one after the other.
    pub(super) fn is_given(&self) -> bool {
        self.limit.source == Source::Given
    }

    /// Of runs that write heatmaps or masks: one at a time, beside all else that a case has taken.
    #[must_use]
    pub fn writing(self, heatmap: bool, mask: bool) -> Self {
        let heatmap = if heatmap { HEATMAP_OF_A_VOXEL } else { 0 };
        let mask = if mask { MASK_OF_A_VOXEL } else { 0 };
        Self { per_voxel: heatmap.max(mask), ..self }
    }

    /// Of runs with a writer that takes so many bytes for each voxel.
    #[must_use]
    pub fn writing_of_a_voxel(self, bytes: usize) -> Self {
        Self { per_voxel: self.per_voxel.max(bytes), ..self }
    }

    /// What is taken for a while to write of a scan of so many voxels.
    pub(super) fn of_writing(&self, voxels: usize) -> usize {
        self.per_voxel.saturating_mul(voxels)
    }

    /// Whether a case that has taken `taken` bytes may take `more`.
    ///
    /// # Errors
    /// One line with the numbers when it may not.
    pub fn allow(&self, what: &Path, taken: usize, more: usize) -> Result<(), String> {
        let all = self.base.saturating_add(taken).saturating_add(more);
        if all <= self.limit.bytes {
            return Ok(());
        }
        let (what, cap, all) = (what.display(), allowed(self.limit), mib(all).saturating_add(1));
        Err(format!("{what}: takes up to {all} MiB in all, {cap}; give at least {all}M"))
    }
}

/// The limit, in words.
fn allowed(limit: Limit) -> String {
    let (bytes, source) = (mib(limit.bytes), limit.source);
    match source {
        Source::Given => format!("{source} is {bytes} MiB"),
        _ => format!("this process may use {bytes} MiB ({source})"),
    }
}

fn mib(bytes: usize) -> usize {
    bytes >> 20
}

/// Bytes of a scan, the most while it is read. 0 where reading it will tell what is wrong.
pub(super) fn of_scan(path: &Path) -> usize {
    memory_of(path).unwrap_or(0)
}

/// Bytes of slices, their pixels for the backbone and as it is given them, and their tokens: those kept after each of
/// `kept` blocks, those on their way, and class and patch tokens as the head sees them.
pub(super) fn of_stack(stack: &SliceStack, backbone: &BackboneInfo, kept: usize) -> usize {
    let [s, channels, h, w] = stack.shape;
    let tokens = backbone.tokens((h / backbone.patch_size, w / backbone.patch_size));
    let pixels = (channels + 6).saturating_mul(h).saturating_mul(w);
    let tokens = (kept + 4).saturating_mul(tokens).saturating_mul(backbone.embed_dim);
    s.saturating_mul(4).saturating_mul(pixels.saturating_add(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(bytes: usize) -> Limit {
        Limit { bytes, source: Source::Given }
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let cap = MemoryCap { limit: given(300 << 20), base: 200 << 20, per_voxel: 0 };
        assert!(cap.allow(Path::new("a.nii"), 50 << 20, 50 << 20).is_ok());
        let e = cap.allow(Path::new("a.nii"), 50 << 20, 60 << 20).unwrap_err();
        assert!(e.contains("a.nii") && e.contains("300 MiB") && e.contains("give at least 311M"), "{e}");
        let writing = cap.writing(true, false);
        assert_eq!((writing.of_writing(1000), cap.of_writing(1000)), (3_000, 0));
        assert_eq!(cap.writing(true, true).of_writing(1000), 14_000);
        assert_eq!(cap.writing(true, true).writing_of_a_voxel(20).of_writing(1000), 20_000);
        let e = MemoryCap::new(given(1 << 20), 2 << 20).unwrap_err();
        assert!(e.contains("--max-memory is 1 MiB"), "{e}");
        let e = MemoryCap::new(Limit { bytes: 1 << 20, source: Source::Cgroup }, 2 << 20).unwrap_err();
        assert!(e.contains("may use 1 MiB (the limit of its control group)"), "{e}");
        assert_eq!((cap.room().bytes, cap.quarter().room().bytes), (100 << 20, 25 << 20));
    }
}
