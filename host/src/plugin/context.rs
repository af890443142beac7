//! A task's place in the host: its tensors by handle, its parameters by name, its lines for the log.

use super::ops;
use crate::device;
use anymc3d_plugin_api::abi::types::{ContextId, ErrorCode, Handle, InitSpec, ViewId};
use anymc3d_plugin_api::{Error, Result, SliceGeometry};
use candle_core::{DType, Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// Where the values of parameters come from.
#[derive(Debug, Clone)]
pub enum ParameterSource {
    /// Trained weights: constants, without a gradient. A name they do not hold is a mismatch, reported once
    /// all are known.
    Weights(BTreeMap<String, Tensor>),
    /// Drawn from each parameter's initialisation; trainable. Those named here start from given values instead.
    Training {
        /// Seed of the run; each parameter's draw depends on it and on its own name only.
        seed: u64,
        /// Values to start from.
        start: BTreeMap<String, Tensor>,
    },
}

/// A parameter that a task asked for.
#[derive(Debug, Clone)]
pub enum Parameter {
    /// From weights.
    Fixed(Tensor),
    /// Trainable.
    Trained(Var),
}

impl Parameter {
    /// As a tensor (tracked when trainable).
    pub fn tensor(&self) -> &Tensor {
        match self {
            Self::Fixed(t) => t,
            Self::Trained(v) => v.as_tensor(),
        }
    }
}

struct Slot {
    generation: u32,
    tensor: Option<Tensor>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Slot>,
    free: Vec<u32>,
}

struct Parameters {
    source: ParameterSource,
    asked: BTreeMap<String, Parameter>,
    mismatches: Vec<String>,
    /// Whether the task is whole: weights were compared with what it asked for, the optimiser knows what there is.
    sealed: bool,
}

/// A task's place in the host. Contexts live as long as the process: a plugin may keep handles anywhere.
pub struct Context {
    id: ContextId,
    task: String,
    dtype: DType,
    device: Device,
    slots: Mutex<Slots>,
    parameters: Mutex<Parameters>,
    views: Mutex<BTreeMap<u64, Arc<SliceGeometry>>>,
}

/// Generations are drawn from one counter, so a handle of another context never fits by accident.
static NEXT_GENERATION: AtomicU32 = AtomicU32::new(1);
/// Ids of views are never used twice, so that one kept beyond its call is refused.
static NEXT_VIEW: AtomicU64 = AtomicU64::new(1);
static CONTEXTS: OnceLock<RwLock<Vec<&'static Context>>> = OnceLock::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere does not make a slab of tensors wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// A new context. `dtype` is f32 outside of gradient tests.
    pub fn create(task: &str, dtype: DType, device: Device, source: ParameterSource) -> &'static Context {
        let all = CONTEXTS.get_or_init(Default::default);
        let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
        let context: &'static Context = Box::leak(Box::new(Context {
            id: ContextId(all.len() as u64),
            task: task.to_owned(),
            dtype,
            device,
            slots: Mutex::default(),
            parameters: Mutex::new(Parameters {
                source,
                asked: BTreeMap::new(),
                mismatches: Vec::new(),
                sealed: false,
            }),
            views: Mutex::default(),
        }));
        all.push(context);
        context
    }

    /// The context of an id that a plugin sent.
    ///
    /// # Errors
    /// When the id was never given out.
    pub fn find(id: ContextId) -> Result<&'static Context> {
        let all = CONTEXTS.get_or_init(Default::default).read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        all.get(index).copied().ok_or_else(|| {
            Error::new(ErrorCode::STALE_HANDLE, format!("context {} was never given out", id.0))
        })
    }

    /// What plugins address this context by.
    pub fn id(&self) -> ContextId {
        self.id
    }

    /// Name of the task, for messages.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Element type of new tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of new tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Puts a tensor into a slot.
    pub fn put(&self, tensor: Tensor) -> Handle {
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        let mut slots = lock(&self.slots);
        let entry = Slot { generation, tensor: Some(tensor) };
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

    /// The tensor behind a handle.
    ///
    /// # Errors
    /// When the handle is stale or foreign.
    pub fn get(&self, handle: Handle) -> Result<Tensor> {
        let slots = lock(&self.slots);
        match slots.entries.get(handle.slot as usize) {
            Some(Slot { generation, tensor: Some(t) }) if *generation == handle.generation => Ok(t.clone()),
            _ => Err(stale(handle)),
        }
    }

    /// Takes a tensor out of its slot.
    ///
    /// # Errors
    /// When the handle is stale or foreign.
    pub fn take(&self, handle: Handle) -> Result<Tensor> {
        let mut slots = lock(&self.slots);
        match slots.entries.get_mut(handle.slot as usize) {
            Some(Slot { generation, tensor }) if *generation == handle.generation => {
                let taken = tensor.take().ok_or_else(|| stale(handle))?;
                slots.free.push(handle.slot);
                Ok(taken)
            }
            _ => Err(stale(handle)),
        }
    }

    /// Answers a plugin's questions about a view for as long as what it gives lives: the length of a call.
    pub fn lend(&'static self, geometry: Arc<SliceGeometry>) -> LentView {
        let id = ViewId(NEXT_VIEW.fetch_add(1, Ordering::Relaxed));
        lock(&self.views).insert(id.0, geometry);
        LentView { context: self, id }
    }

    /// The slice geometry of a view that the running call may use.
    ///
    /// # Errors
    /// When the call has ended, or the id was never given out.
    pub fn geometry(&self, view: ViewId) -> Result<Arc<SliceGeometry>> {
        lock(&self.views).get(&view.0).cloned().ok_or_else(|| {
            let message = format!("view {} is of a call that has ended, or of none", view.0);
            Error::new(ErrorCode::STALE_HANDLE, message)
        })
    }

    /// Number of handles that have not been given back.
    pub fn live_handles(&self) -> usize {
        let slots = lock(&self.slots);
        slots.entries.len() - slots.free.len()
    }

    /// Lets go of every tensor once the task is gone. The context itself stays: a handle that its plugin kept in a
    /// static is stale from now on, not dangling.
    pub fn retire(&self) {
        let mut slots = lock(&self.slots);
        let left: Vec<(u32, Tensor)> = slots
            .entries
            .iter_mut()
            .enumerate()
            .filter_map(|(i, slot)| slot.tensor.take().map(|t| (i as u32, t)))
            .collect();
        slots.free.extend(left.iter().map(|(slot, _)| *slot));
        drop(slots);
        let nothing = ParameterSource::Weights(BTreeMap::new());
        let gone =
            Parameters { source: nothing, asked: BTreeMap::new(), mismatches: Vec::new(), sealed: true };
        // Big memory is freed after the locks are.
        drop((left, std::mem::replace(&mut *lock(&self.parameters), gone)));
    }

    /// The parameter of a name; the first request creates it.
    ///
    /// # Errors
    /// When the name was asked for with another shape before.
    pub fn parameter(&self, name: &str, dims: &[usize], init: InitSpec) -> Result<Tensor> {
        ops::affordable(dims).map_err(|e| {
            Error::new(ErrorCode::PARAMETER, format!("parameter `{name}`: {}", device::one_line(&e)))
        })?;
        let mut guarded = lock(&self.parameters);
        let parameters = &mut *guarded;
        if let Some(known) = parameters.asked.get(name) {
            let tensor = known.tensor();
            if tensor.dims() != dims {
                let message =
                    format!("parameter `{name}` was {:?} before and is asked for as {dims:?}", tensor.dims());
                return Err(Error::new(ErrorCode::PARAMETER, message));
            }
            return Ok(tensor.clone());
        }
        if parameters.sealed {
            let message = format!(
                "parameter `{name}` was asked for in a call, where it has no weights; ask for it when the part is made"
            );
            return Err(Error::new(ErrorCode::PARAMETER, message));
        }
        let made = match &parameters.source {
            ParameterSource::Weights(weights) => match weights.get(name) {
                Some(t) if t.dims() == dims => Parameter::Fixed(self.converted(t)?),
                found => {
                    parameters.mismatches.push(match found {
                        Some(t) => format!("`{name}` is {:?}, expected {dims:?}", t.dims()),
                        None => format!("`{name}` {dims:?} is missing"),
                    });
                    // Zeros stand in so that every mismatch is found; a context with one never predicts.
                    Parameter::Fixed(self.tensor(Tensor::zeros(dims, self.dtype, &self.device))?)
                }
            },
            ParameterSource::Training { seed, start } => {
                let value = match start.get(name) {
                    Some(t) if t.dims() == dims => self.converted(t)?,
                    Some(t) => {
                        let message =
                            format!("parameter `{name}`: the start has {:?}, expected {dims:?}", t.dims());
                        return Err(Error::new(ErrorCode::PARAMETER, message));
                    }
                    None => self.random_init(*seed, name, dims, init)?,
                };
                Parameter::Trained(self.tensor(Var::from_tensor(&value))?)
            }
        };
        let tensor = made.tensor().clone();
        parameters.asked.insert(name.to_owned(), made);
        Ok(tensor)
    }

    fn tensor<T>(&self, made: candle_core::Result<T>) -> Result<T> {
        made.map_err(|e| Error::new(ErrorCode::INVALID, device::one_line(&e)))
    }

    fn converted(&self, t: &Tensor) -> Result<Tensor> {
        self.tensor(t.to_dtype(self.dtype).and_then(|t| t.to_device(&self.device)))
    }

    fn random_init(&self, seed: u64, name: &str, dims: &[usize], init: InitSpec) -> Result<Tensor> {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name.as_bytes()).finalize();
        let mut rng = ChaCha20Rng::from_seed(digest.into());
        let n: usize = dims.iter().product();
        let InitSpec { kind, a, b } = init;
        let mut draw: Box<dyn FnMut() -> f64> = match kind {
            0 => Box::new(move || a),
            1 => Box::new(move || a + b * normal(&mut rng)),
            2 => Box::new(move || {
                loop {
                    let z = normal(&mut rng);
                    if z.abs() <= 2.0 {
                        break a + b * z;
                    }
                }
            }),
            3 => Box::new(move || a + (b - a) * rng.random::<f64>()),
            other => {
                return Err(Error::new(
                    ErrorCode::PARAMETER,
                    format!("`{name}`: initialisation {other} is unknown"),
                ));
            }
        };
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        self.tensor(Tensor::from_vec(values, dims, &self.device).and_then(|t| t.to_dtype(self.dtype)))
    }

    /// From here on no parameter is made: it would have no weights, and no optimiser would know it.
    pub fn seal(&self) {
        lock(&self.parameters).sealed = true;
    }

    /// Every parameter asked for so far, by name.
    pub fn parameters(&self) -> BTreeMap<String, Parameter> {
        lock(&self.parameters).asked.clone()
    }

    /// What is wrong with the weights: missing, misshapen, and those that nobody asked for.
    pub fn mismatches(&self) -> Vec<String> {
        let parameters = lock(&self.parameters);
        let mut all = parameters.mismatches.clone();
        if let ParameterSource::Weights(weights) = &parameters.source {
            let unused = weights.keys().filter(|name| !parameters.asked.contains_key(*name));
            all.extend(unused.map(|name| format!("`{name}` is not used by the plugin")));
        }
        all
    }
}

/// A view's geometry while a call runs.
pub struct LentView {
    context: &'static Context,
    id: ViewId,
}

impl LentView {
    /// What the plugin asks by.
    pub fn id(&self) -> ViewId {
        self.id
    }
}

impl Drop for LentView {
    fn drop(&mut self) {
        lock(&self.context.views).remove(&self.id.0);
    }
}

fn stale(handle: Handle) -> Error {
    let Handle { slot, generation } = handle;
    Error::new(ErrorCode::STALE_HANDLE, format!("handle {slot}.{generation} is stale or not this task's"))
}

/// Box-Muller, one of the pair.
fn normal(rng: &mut ChaCha20Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
