//! The process that plugins are in, from the outside: started, spoken with, waited for no longer than it may take, and
//! how it ended.

use super::wire;
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long a process that was told to end may take for it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Starts a process whose standard input is the socket it is given, and which calls [`super::serve`]. What its plugins
/// print must not get between results: the process's standard output belongs on standard error.
pub type SpawnWorker = dyn Fn(OwnedFd) -> io::Result<Child> + Send + Sync;

/// A process that listens on its standard input, a socket.
pub struct Process {
    child: Child,
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// Why nothing more comes from a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It took too long and was killed.
    TimedOut,
    /// It ended by itself: how.
    Exited(String),
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("took longer than the time limit, and its process was killed"),
            Self::Exited(how) => write!(f, "ended its process ({how})"),
        }
    }
}

impl Process {
    /// Starts a child process with the embedding program's function.
    ///
    /// # Errors
    /// One line, when the system refuses.
    pub fn start(spawn: &SpawnWorker) -> Result<Self, String> {
        let start = || -> io::Result<Self> {
            let (stream, theirs) = UnixStream::pair()?;
            Ok(Self { child: spawn(OwnedFd::from(theirs))?, stream, buffer: Vec::new() })
        };
        start().map_err(|e| format!("no process could be started for the plugins ({e})"))
    }

    /// As the system calls it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message. One that does not arrive shows in what comes back.
    pub fn send(&mut self, message: &impl Serialize) {
        let _ = wire::send(&mut self.stream, message);
    }

    /// Waits for the next message, at most until `until`.
    ///
    /// # Errors
    /// When no message arrives. The caller must then call [`Self::end`].
    pub fn receive<T: DeserializeOwned>(&mut self, until: Instant) -> Result<T, ExitReason> {
        let mut part = [0; 1 << 16];
        loop {
            match wire::take(&mut self.buffer) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(e) => return Err(ExitReason::Exited(e)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.kill(ExitReason::TimedOut));
            }
            // Not a failure of the process: a limit that cannot be set is waited for without.
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut part) {
                Ok(0) => return Err(self.ended()),
                Ok(n) => self.buffer.extend_from_slice(&part[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(e) if e.kind() == ErrorKind::TimedOut => {}
                Err(_) => return Err(self.ended()),
            }
        }
    }

    fn kill(&mut self, why: ExitReason) -> ExitReason {
        // One that has ended in the meantime is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        why
    }

    /// How it ended; killed where it hung up and goes on.
    fn ended(&mut self) -> ExitReason {
        match self.wait(FAREWELL) {
            Some(status) => ExitReason::Exited(describe(status)),
            None => self.kill(ExitReason::Exited("hung up, and was killed".to_owned())),
        }
    }

    fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + at_most;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }

    /// Lets it end, and says how it did where that was not in peace.
    pub fn end(mut self) -> Option<String> {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        match self.wait(FAREWELL) {
            Some(status) if status.success() => None,
            Some(status) => Some(describe(status)),
            None => {
                self.kill(ExitReason::TimedOut);
                Some("it did not end by itself and was killed".to_owned())
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill(ExitReason::TimedOut);
    }
}

/// `signal 11, segmentation fault`
fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return status.code().map_or("in an unknown way".to_owned(), |code| format!("exit code {code}"));
    };
    let name = match signal {
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "arithmetic error",
        9 => "killed, perhaps for want of memory",
        11 => "segmentation fault",
        15 => "terminated",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal}, {name}")
}
