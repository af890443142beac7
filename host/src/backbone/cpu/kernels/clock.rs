//! Time on the processors: what can be compared on a machine that others use too.

/// A moment, on the wall and on the processors.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: std::time::Instant,
    process: f64,
    thread: f64,
}

/// Milliseconds between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// That passed.
    pub wall: f64,
    /// Of all threads of the process together on the processors.
    pub process: f64,
    /// Of this thread on its processor.
    pub thread: f64,
}

impl Moment {
    pub fn now() -> Self {
        let [process, thread] = processor_times();
        Self { wall: std::time::Instant::now(), process, thread }
    }

    /// What was spent since.
    pub fn spent(&self) -> Spent {
        let now = Self::now();
        Spent {
            wall: now.wall.duration_since(self.wall).as_secs_f64() * 1e3,
            process: now.process - self.process,
            thread: now.thread - self.thread,
        }
    }
}

/// Of the process and of this thread, ms.
#[cfg(unix)]
fn processor_times() -> [f64; 2] {
    [libc::CLOCK_PROCESS_CPUTIME_ID, libc::CLOCK_THREAD_CPUTIME_ID].map(clock)
}

/// Only Unix has these clocks; elsewhere the time on the wall is all that is told.
#[cfg(not(unix))]
fn processor_times() -> [f64; 2] {
    [0.0; 2]
}

#[cfg(unix)]
fn clock(which: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that is ours; a clock that the system lacks leaves it at zero.
    unsafe { libc::clock_gettime(which, &mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
