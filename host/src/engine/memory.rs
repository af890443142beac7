//! A cap on the process's memory: what a case takes is told before it is taken.

use crate::backbone::BackboneInfo;
use crate::volume::{SliceStack, memory_of};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Most bytes the process may take, and what it took before the first case.
#[derive(Debug, Clone, Copy)]
pub struct MemoryCap {
    cap: usize,
    base: usize,
    /// What is written takes this for each voxel of the scan, for a while.
    per_voxel: usize,
}

/// Of a heatmap on the scan's grid: its values, the same in the file's order, and the file. Measured: 12.5 bytes.
const HEATMAP_OF_A_VOXEL: usize = 13;
/// Of a mask: its logits in place of a heatmap's values, and a byte.
const MASK_OF_A_VOXEL: usize = 14;

/// What an engine holds between cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// Where: `cpu`, or `cuda:N` and its name.
    pub device: String,
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
        write!(f, "{}: backbone {}", self.device, mib(self.backbone_bytes))?;
        for (name, bytes) in &self.task_bytes {
            write!(f, ", {name} {}", mib(*bytes))?;
        }
        match self.free_bytes {
            Some(free) => write!(f, "; {} left for a case", mib(free)),
            None => Ok(()),
        }
    }
}

/// What a case takes memory for.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The scan and its canonical copy.
    Read,
    /// Slices, pixels and tokens.
    Answer,
}

/// Of each thread, for the activations of the slice that it is at and for products.
const OF_A_THREAD: usize = 24 << 20;

impl MemoryCap {
    /// Of a process whose backbone and tasks are open.
    ///
    /// # Errors
    /// One line with the numbers when they alone take more.
    pub fn new(cap: usize) -> Result<Self, String> {
        let base = resident().unwrap_or(0) + rayon::current_num_threads() * OF_A_THREAD;
        if base < cap {
            return Ok(Self { cap, base, per_voxel: 0 });
        }
        let (cap, base) = (mib(cap), mib(base));
        Err(format!(
            "--max-memory {cap} MiB: backbone and tasks take {base} MiB already; give more, or fewer plugins"
        ))
    }

    /// Of runs that write heatmaps or masks: one at a time, beside all else that a case has taken.
    #[must_use]
    pub fn writing(self, heatmap: bool, mask: bool) -> Self {
        let heatmap = if heatmap { HEATMAP_OF_A_VOXEL } else { 0 };
        let mask = if mask { MASK_OF_A_VOXEL } else { 0 };
        Self { per_voxel: heatmap.max(mask), ..self }
    }

    /// What is taken for a while to write of a scan of so many voxels.
    pub(super) fn of_writing(&self, voxels: usize) -> usize {
        self.per_voxel.saturating_mul(voxels)
    }

    /// Whether a case that has taken `taken` bytes may take `more` for `step`.
    ///
    /// # Errors
    /// One line with the numbers when it may not.
    pub fn allow(&self, what: &Path, step: Step, taken: usize, more: usize) -> Result<(), String> {
        let all = self.base.saturating_add(taken).saturating_add(more);
        if all <= self.cap {
            return Ok(());
        }
        let (what, cap, all) = (what.display(), mib(self.cap), mib(all) + 1);
        Err(match step {
            // How many slices there will be is not known before the scan is read.
            Step::Read => format!(
                "{what}: takes up to {all} MiB to be read, and more to be answered; --max-memory is {cap} MiB"
            ),
            Step::Answer => {
                format!(
                    "{what}: takes up to {all} MiB in all, --max-memory is {cap} MiB; give at least {all}M"
                )
            }
        })
    }
}

fn mib(bytes: usize) -> usize {
    bytes >> 20
}

/// Bytes of a scan and its canonical copy, the most while it is read. 0 where reading it will tell what is wrong.
pub(super) fn of_scan(path: &Path) -> usize {
    memory_of(path).unwrap_or(0)
}

/// Bytes of slices, their pixels for the backbone and as it is given them, and their tokens: those kept after each of
/// `kept` blocks, those on their way, and class and patch tokens as the head sees them.
pub(super) fn of_stack(stack: &SliceStack, backbone: &BackboneInfo, kept: usize) -> usize {
    let [s, channels, h, w] = stack.shape;
    let tokens = backbone.tokens((h / backbone.patch_size, w / backbone.patch_size));
    4 * s * ((channels + 6) * h * w + (kept + 4) * tokens * backbone.embed_dim)
}

/// Resident bytes of this process, where the system tells.
pub fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    kib(&text, "VmRSS:")
}

/// The machine's memory, where the system tells.
pub fn machine_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kib(&text, "MemTotal:")
}

fn kib(text: &str, key: &str) -> Option<usize> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|n| n << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let cap = MemoryCap { cap: 300 << 20, base: 200 << 20, per_voxel: 0 };
        assert!(cap.allow(Path::new("a.nii"), Step::Answer, 50 << 20, 50 << 20).is_ok());
        let e = cap.allow(Path::new("a.nii"), Step::Answer, 50 << 20, 60 << 20).unwrap_err();
        assert!(e.contains("a.nii") && e.contains("300 MiB") && e.contains("give at least 311M"), "{e}");
        let e = cap.allow(Path::new("a.nii"), Step::Read, 0, 110 << 20).unwrap_err();
        assert!(e.contains("311 MiB to be read, and more") && !e.contains("give at least"), "{e}");
        let writing = cap.writing(true, false);
        assert_eq!((writing.of_writing(1000), cap.of_writing(1000)), (13_000, 0));
        assert_eq!(cap.writing(true, true).of_writing(1000), 14_000);
        let e = MemoryCap::new(1 << 20).unwrap_err();
        assert!(e.contains("--max-memory 1 MiB"), "{e}");
    }
}
