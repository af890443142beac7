//! What the test host keeps of a task: tensors by handle, parameters by name, lines of the log.

use super::node::{Inner, Node, affordable, count};
use super::random::Random;
use crate::abi::types::{ContextId, ErrorCode, Handle, InitSpec, ViewId};
use crate::error::{Error, Result};
use crate::geometry::SliceGeometry;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Generations are drawn from one counter, so that a handle of another context never fits by accident.
static NEXT_GENERATION: AtomicU32 = AtomicU32::new(1);
/// Ids of views are never used twice, so that one kept beyond its call is refused.
static NEXT_VIEW: AtomicU64 = AtomicU64::new(1);
static NEXT_CONTEXT: AtomicU64 = AtomicU64::new(0);
static CONTEXTS: Mutex<BTreeMap<u64, Arc<State>>> = Mutex::new(BTreeMap::new());

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make a map of tensors wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the operation table works on.
pub(crate) struct State {
    pub seed: u64,
    slots: Mutex<Slots>,
    pub parameters: Mutex<BTreeMap<String, Node>>,
    pub log: Mutex<Vec<String>>,
    views: Mutex<BTreeMap<u64, Arc<SliceGeometry>>>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<(u32, Option<Node>)>,
    free: Vec<u32>,
}

impl State {
    /// A new one, and what plugins address it by.
    pub fn create(seed: u64) -> (ContextId, Arc<Self>) {
        let id = ContextId(NEXT_CONTEXT.fetch_add(1, Ordering::Relaxed));
        let state = Arc::new(Self {
            seed,
            slots: Mutex::default(),
            parameters: Mutex::default(),
            log: Mutex::default(),
            views: Mutex::default(),
        });
        lock(&CONTEXTS).insert(id.0, state.clone());
        (id, state)
    }

    /// From here on every call with this id is refused.
    pub fn forget(id: ContextId) {
        lock(&CONTEXTS).remove(&id.0);
    }

    /// Answers questions about a view for as long as what it gives lives.
    pub fn lend(self: &Arc<Self>, geometry: &SliceGeometry) -> Lent {
        let id = NEXT_VIEW.fetch_add(1, Ordering::Relaxed);
        lock(&self.views).insert(id, Arc::new(geometry.clone()));
        Lent { state: self.clone(), id }
    }

    /// Where the slices of a view lie that was lent.
    pub fn geometry_of(&self, view: ViewId) -> Result<Arc<SliceGeometry>> {
        lock(&self.views).get(&view.0).cloned().ok_or_else(|| {
            Error::new(
                ErrorCode::STALE_HANDLE,
                format!("view {} is of a call that has ended, or of none", view.0),
            )
        })
    }

    /// The context of an id that a plugin sent.
    pub fn find(id: ContextId) -> Result<Arc<Self>> {
        lock(&CONTEXTS).get(&id.0).cloned().ok_or_else(|| {
            Error::new(ErrorCode::STALE_HANDLE, format!("context {} is not there, or no longer", id.0))
        })
    }

    pub fn put(&self, node: Node) -> Handle {
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        let mut slots = lock(&self.slots);
        let entry = (generation, Some(node));
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.entries[slot as usize] = entry;
                slot
            }
            None => {
                slots.entries.push(entry);
                (slots.entries.len() - 1) as u32
            }
        };
        Handle { slot, generation }
    }

    pub fn get(&self, handle: Handle) -> Result<Node> {
        match lock(&self.slots).entries.get(handle.slot as usize) {
            Some((generation, Some(node))) if *generation == handle.generation => Ok(node.clone()),
            _ => Err(stale(handle)),
        }
    }

    pub fn take(&self, handle: Handle) -> Result<Node> {
        let mut slots = lock(&self.slots);
        match slots.entries.get_mut(handle.slot as usize) {
            Some((generation, node)) if *generation == handle.generation => {
                let taken = node.take().ok_or_else(|| stale(handle))?;
                slots.free.push(handle.slot);
                Ok(taken)
            }
            _ => Err(stale(handle)),
        }
    }

    pub fn live(&self) -> usize {
        let slots = lock(&self.slots);
        slots.entries.len() - slots.free.len()
    }

    /// The parameter of a name, drawn at the first request.
    pub fn parameter(&self, name: &str, dims: &[usize], init: InitSpec) -> Result<Node> {
        let refuse = |message: String| Error::new(ErrorCode::PARAMETER, message);
        affordable(dims).map_err(|e| refuse(format!("parameter `{name}`: {e}")))?;
        let mut parameters = lock(&self.parameters);
        if let Some(known) = parameters.get(name) {
            return match known.dims == dims {
                true => Ok(known.clone()),
                false => Err(refuse(format!(
                    "parameter `{name}` was {:?} before and is asked for as {dims:?}",
                    known.dims
                ))),
            };
        }
        let mut random = Random::named(self.seed, name);
        let InitSpec { kind, a, b } = init;
        let mut draw = || -> Option<f64> {
            Some(match kind {
                0 => a,
                1 => a + b * random.normal(),
                2 => a + b * random.truncated(),
                3 => a + (b - a) * random.uniform(),
                _ => return None,
            })
        };
        let values: Option<Vec<f32>> = (0..count(dims)).map(|_| draw().map(|v| v as f32)).collect();
        let values = values.ok_or_else(|| refuse(format!("`{name}`: initialisation {kind} is unknown")))?;
        let made = Inner::leaf(dims.to_vec(), values);
        parameters.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    pub fn say(&self, line: String) {
        lock(&self.log).push(line);
    }
}

/// A view's geometry while a call runs.
pub(crate) struct Lent {
    state: Arc<State>,
    id: u64,
}

impl Lent {
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.state.views).remove(&self.id);
    }
}

fn stale(handle: Handle) -> Error {
    let Handle { slot, generation } = handle;
    Error::new(ErrorCode::STALE_HANDLE, format!("handle {slot}.{generation} is stale or not this task's"))
}
