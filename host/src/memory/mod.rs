//! How much memory this process may use; buffers whose allocation fails with an error instead of ending the process.
//!
//! A reader computes what a file's header asks for and compares it with the [`MemoryBudget`] that is left. It allocates with
//! [`zeroed`] and [`copied`], which return an error if the system refuses. The limit belongs to the process, like its
//! thread pool: the program sets it once, before it reads a scan.

mod cgroup;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What sets the most memory that the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--max-memory`.
    Given,
    /// 80 % of the machine's memory.
    Machine,
    /// The control group's limit.
    Cgroup,
    /// `RLIMIT_AS`: counts address space, and not what is resident of it.
    AddressSpace,
    /// The system tells none.
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "--max-memory",
            Self::Machine => "80 % of the machine's memory",
            Self::Cgroup => "the limit of its control group",
            Self::AddressSpace => "its limit of address space, RLIMIT_AS or `ulimit -v`",
            Self::Unknown => "no limit is known",
        })
    }
}

/// The most memory that the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: usize,
    /// Why no more.
    pub source: Source,
}

/// What the system allows, least first; the file that says it, of a control group.
pub fn system_limits() -> Vec<(Limit, Option<PathBuf>)> {
    let mut all = Vec::new();
    let mut add = |bytes: Option<usize>, source, file| {
        all.extend(bytes.map(|bytes| (Limit { bytes, source }, file)));
    };
    add(machine_memory().map(|total| total / 10 * 8), Source::Machine, None);
    if let Some((bytes, file)) = cgroup::limit(Path::new("/proc"), Path::new("/")) {
        add(Some(bytes), Source::Cgroup, Some(file));
    }
    add(address_space(), Source::AddressSpace, None);
    all.sort_by_key(|(limit, _)| limit.bytes);
    all
}

/// `--max-memory`; 0 where it was not given.
static GIVEN: AtomicUsize = AtomicUsize::new(0);
/// What the process held before its first scan, one more than the bytes; 0 where nobody has asked yet.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Sets the limit as the user gave it; before any scan is read.
pub fn give(most: Option<usize>) {
    GIVEN.store(most.unwrap_or(0), Ordering::Relaxed);
}

/// The limit that binds: of what was given, else of 80 % of the machine's memory, and of what the system enforces.
pub fn limit() -> Limit {
    static SYSTEM: OnceLock<Vec<Limit>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| system_limits().into_iter().map(|(limit, _)| limit).collect());
    least(GIVEN.load(Ordering::Relaxed), system)
}

fn least(given: usize, system: &[Limit]) -> Limit {
    let given = (given > 0).then_some(Limit { bytes: given, source: Source::Given });
    // Whoever gives a limit may take more than 80 % of the machine; beyond what is enforced there is nothing to take.
    let enforced = system.iter().copied().filter(|l| given.is_none() || l.source != Source::Machine);
    let none = Limit { bytes: usize::MAX, source: Source::Unknown };
    given.into_iter().chain(enforced).min_by_key(|limit| limit.bytes).unwrap_or(none)
}

/// Bytes that the process holds before its first scan, counted as its limit counts; measured at the first call.
pub fn base() -> usize {
    let known = BASE.load(Ordering::Relaxed);
    if known > 0 {
        return known - 1;
    }
    let now = in_use(limit().source);
    BASE.store(now + 1, Ordering::Relaxed);
    now
}

/// Adds what stays for the rest of the process's life, for example a backbone that is opened after scans were read.
pub fn hold(bytes: usize) {
    base();
    BASE.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes in use now, counted as a limit of that source counts.
pub fn in_use(source: Source) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let key = if source == Source::AddressSpace { "VmSize:" } else { "VmRSS:" };
    kib(&text, key).unwrap_or(0)
}

/// Resident bytes of this process, where the system tells.
pub fn resident() -> Option<usize> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Resident bytes of another process, where the system tells.
pub fn resident_of(process: u32) -> Option<usize> {
    kib(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?, "VmRSS:")
}

/// The machine's memory, where the system tells.
pub fn machine_memory() -> Option<usize> {
    kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

fn kib(text: &str, key: &str) -> Option<usize> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|n| n << 10)
}

#[cfg(unix)]
fn address_space() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::As).current.and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(not(unix))]
fn address_space() -> Option<usize> {
    None
}

/// What may still be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Bytes.
    pub bytes: usize,
    /// Why no more.
    pub limit: Limit,
}

impl MemoryBudget {
    /// Of this process beside what it held before its first scan.
    pub fn of_process() -> Self {
        let limit = limit();
        Self { bytes: limit.bytes.saturating_sub(base()), limit }
    }

    /// Of so many bytes in all, of which none is taken.
    pub fn of(bytes: usize) -> Self {
        Self { bytes, limit: Limit { bytes, source: Source::Given } }
    }

    /// Beside `taken` bytes.
    #[must_use]
    pub fn less(self, taken: usize) -> Self {
        Self { bytes: self.bytes.saturating_sub(taken), ..self }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { bytes, source } = self.limit;
        match source {
            Source::Unknown => f.write_str("what the system has"),
            _ => write!(
                f,
                "{} MiB of the {} MiB that {source} leaves this process",
                self.bytes >> 20,
                bytes >> 20
            ),
        }
    }
}

/// The system has no such block of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no {} MiB", .bytes >> 20)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub bytes: usize,
}

/// `n` zeros.
///
/// # Errors
/// When there is no memory for them.
pub fn zeroed<T: bytemuck::Zeroable>(n: usize) -> Result<Vec<T>, OutOfMemory> {
    let bytes = n.saturating_mul(size_of::<T>());
    // A vector of more bytes than this cannot be, and would panic.
    if isize::try_from(bytes).is_err() {
        return Err(OutOfMemory { bytes });
    }
    bytemuck::allocation::try_zeroed_vec(n).map_err(|()| OutOfMemory { bytes })
}

/// A copy of the values.
///
/// # Errors
/// When there is no memory for them.
pub fn copied<T: Copy>(values: &[T]) -> Result<Vec<T>, OutOfMemory> {
    let mut copy = reserved(values.len())?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// An empty vector with room for `n` values.
///
/// # Errors
/// When there is no memory for them.
pub fn reserved<T>(n: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut values = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    values.try_reserve_exact(n).map_err(|_| OutOfMemory { bytes })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_binds_and_a_given_one_replaces_the_machines_share_alone() {
        let of = |bytes, source| Limit { bytes, source };
        let system = [of(800, Source::Machine), of(600, Source::Cgroup), of(4000, Source::AddressSpace)];
        assert_eq!(least(0, &system), system[1]);
        assert_eq!(least(500, &system), of(500, Source::Given));
        assert_eq!(least(900, &system), system[1]);
        assert_eq!(least(900, &system[..1]), of(900, Source::Given));
        assert_eq!(least(0, &[]).source, Source::Unknown);
    }

    #[test]
    fn a_buffer_that_cannot_be_is_an_error() {
        assert!(zeroed::<f32>(usize::MAX / 2).is_err());
        assert!(zeroed::<f32>(usize::MAX / 8 - 10).is_err());
        assert!(reserved::<u8>(usize::MAX).is_err());
        assert_eq!(zeroed::<f32>(3), Ok(vec![0.0; 3]));
        assert_eq!(copied(&[1u8, 2]), Ok(vec![1, 2]));
    }

    #[test]
    fn room_shrinks_by_what_is_taken_and_says_what_binds() {
        let room =
            MemoryBudget { bytes: 300 << 20, limit: Limit { bytes: 500 << 20, source: Source::Cgroup } };
        assert_eq!(room.less(100 << 20).bytes, 200 << 20);
        assert_eq!(room.less(usize::MAX).bytes, 0);
        let words = room.to_string();
        assert!(words.contains("300 MiB of the 500 MiB") && words.contains("control group"), "{words}");
    }
}
