//! Who writes a shard, in a store: an object that its writer renews, so that one that was killed is told from one that
//! works. Only the readers' own clocks count: a lock that does not change while they watch is nobody's.

use super::client::{Listed, Objects, PutError, Tag, When};
use crate::batch::shard::Shard;
use crate::batch::usage;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(4);
/// After which time without one a lock is nobody's.
const STALE: Duration = Duration::from_secs(20);
/// Between two looks at a lock.
const LOOK: Duration = Duration::from_secs(1);
const LOCKS: &str = ".batch/locks";

/// Why there is no lease.
pub(super) enum Refused {
    /// Another process writes this shard, or one of another division of the work: which, and who.
    Busy(String, String),
    /// One line.
    Store(String),
}

/// The right to write a shard, until it is dropped.
pub(super) struct Lease {
    objects: Objects,
    name: String,
    tag: Arc<Mutex<Tag>>,
    lost: Arc<AtomicBool>,
    /// When the store last took a sign of life.
    last: Arc<Mutex<Instant>>,
    end: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes a shard; waits up to [`STALE`] where somebody else's lock lies there.
    pub fn take(objects: &Objects, shard: Shard) -> Result<Self, Refused> {
        let objects = objects.again().map_err(Refused::Store)?;
        let name = format!("{LOCKS}/{}.lock", shard.file_stem());
        let division = format!("-of-{}.lock", shard.of());
        let others = |objects: &Objects| -> Result<Vec<Listed>, Refused> {
            let mut all = objects.list(LOCKS).map_err(Refused::Store)?;
            all.retain(|lock| lock.name == name || !lock.name.ends_with(&division));
            Ok(all)
        };
        loop {
            let first = others(&objects)?;
            let mut mine = When::Absent;
            if !first.is_empty() {
                let begun = Instant::now();
                loop {
                    std::thread::sleep(LOOK);
                    let now = others(&objects)?;
                    if let Some(alive) = now.iter().find(|lock| !first.contains(lock)) {
                        return Err(busy(&objects, alive));
                    }
                    if now.is_empty() || begun.elapsed() > STALE {
                        break;
                    }
                }
                for dead in first.iter().filter(|lock| lock.name != name) {
                    objects.remove(&dead.name).map_err(Refused::Store)?;
                }
                if let Some(own) = others(&objects)?.iter().find(|lock| lock.name == name) {
                    mine = When::Still(own.tag.clone());
                }
            }
            let tag = match objects.put(&name, text(0), &mine) {
                Ok(tag) => tag,
                // Somebody was faster: watch that one.
                Err(PutError::Changed) => continue,
                Err(PutError::Store(e)) => return Err(Refused::Store(e)),
            };
            let lease = Self::begin(objects, name.clone(), tag)?;
            // Two divisions that begin in one moment see each other here.
            if let Some(other) = others(&lease.objects)?.iter().find(|lock| lock.name != name) {
                return Err(busy(&lease.objects, other));
            }
            return Ok(lease);
        }
    }

    fn begin(objects: Objects, name: String, tag: Tag) -> Result<Self, Refused> {
        let (end, ended) = channel();
        let (tag, lost) = (Arc::new(Mutex::new(tag)), Arc::new(AtomicBool::new(false)));
        let beating = objects.again().map_err(Refused::Store)?;
        let last = Arc::new(Mutex::new(Instant::now()));
        let (now, gone, at, told) = (tag.clone(), lost.clone(), name.clone(), last.clone());
        let beats = std::thread::spawn(move || {
            for beat in 1u64.. {
                if !matches!(ended.recv_timeout(BEAT), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                let before = now.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match beating.put(&at, text(beat), &When::Still(before)) {
                    Ok(tag) => {
                        *now.lock().unwrap_or_else(PoisonError::into_inner) = tag;
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    }
                    Err(PutError::Changed) => return gone.store(true, Ordering::Relaxed),
                    // The store may come back before somebody else has waited long enough.
                    Err(PutError::Store(_)) => {}
                }
            }
        });
        Ok(Self { objects, name, tag, lost, last, end: Some(end), beats: Some(beats) })
    }

    /// Whether nobody else may have taken the shard.
    pub fn holds(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        !self.lost.load(Ordering::Relaxed) && last.elapsed() < STALE - BEAT
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(beats) = self.beats.take() {
            // A thread that panicked says no more.
            let _ = beats.join();
        }
        let tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // One that somebody else has taken over stays; one that cannot be removed is nobody's soon.
        if let Ok(Some((_, now))) = self.objects.read(&self.name)
            && now == tag
        {
            let _ = self.objects.remove(&self.name);
        }
    }
}

/// Shards' locks that change while somebody watches: of any shard at all, who holds one.
pub(super) fn alive(objects: &Objects) -> Result<Option<(String, String)>, String> {
    let first = objects.list(LOCKS)?;
    if first.is_empty() {
        return Ok(None);
    }
    std::thread::sleep(BEAT * 2);
    let now = objects.list(LOCKS)?;
    let alive = now.iter().find(|lock| !first.contains(lock));
    Ok(alive.map(|lock| match busy(objects, lock) {
        Refused::Busy(shard, by) => (shard, by),
        Refused::Store(e) => (String::new(), e),
    }))
}

fn busy(objects: &Objects, lock: &Listed) -> Refused {
    let file = lock.name.rsplit('/').next().unwrap_or(&lock.name);
    let shard = file.strip_suffix(".lock").unwrap_or(file).replace("-of-", "/");
    let text = objects.read(&lock.name).ok().flatten().map(|(bytes, _)| bytes);
    let text =
        text.map(|bytes| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned());
    Refused::Busy(shard, text.unwrap_or_else(|| "another process".to_owned()))
}

/// Who writes, and a number: an object of another content has another tag.
fn text(beat: u64) -> String {
    format!(
        "process {} on {}\nbeat {beat} {}\n",
        std::process::id(),
        usage::host_name(),
        jiff::Timestamp::now()
    )
}
