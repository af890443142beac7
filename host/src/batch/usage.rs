//! What a case takes: processor-seconds and the peak of memory of this process, where the system tells them.

use std::fs;

/// USER_HZ, in which Linux counts processor time in /proc: part of its ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor-seconds of this process so far, of all its threads. Linux.
pub(super) fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold blanks and brackets itself; utime and stime are the 12th and 13th field after it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Lets the peak of memory begin anew. Linux.
pub(super) fn reset_peak() {
    // Where it cannot be reset, the peak is the process's so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Most resident bytes since the peak was reset. Linux.
pub(super) fn peak_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The machine's name, for people.
pub(super) fn host_name() -> String {
    let of_system = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    of_system.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_are_counted() {
        let before = cpu_seconds().unwrap();
        reset_peak();
        let low = peak_bytes().unwrap();
        let mut held = vec![1u8; 64 << 20];
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {
            held.iter_mut().for_each(|b| *b = b.wrapping_mul(3));
        }
        assert!(held.iter().map(|b| u64::from(*b)).sum::<u64>() > 0);
        let took = cpu_seconds().unwrap() - before;
        assert!((0.02..10.0).contains(&took), "{took}");
        assert!(peak_bytes().unwrap() >= low + (32 << 20), "{low}");
    }
}
