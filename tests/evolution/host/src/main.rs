//! A host of nothing but the boundary, small enough to be kept as a binary: the loader's own layout check, and a table of
//! plain f32 arithmetic. Loads the libraries it is given, one after the other, and asks each for an answer.
//!
//! A test's program: it stands for the host of an ABI version. Operations that no standard head needs are unknown to it.

#[path = "../../../../host/src/plugin/layout.rs"]
mod layout;

use abi_stable::library::{AbiHeaderRef, LibHeader};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RSlice, RStr, RVec};
use anymc3d_plugin_api::abi::guard::guard_ffi;
use anymc3d_plugin_api::abi::objects::{ABI_VERSION, HEADER_SYMBOL, PluginModule_Ref};
use anymc3d_plugin_api::abi::table::{Answer, HostOps, HostOps_Ref};
use anymc3d_plugin_api::abi::types::*;
use anymc3d_plugin_api::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Row-major numbers and their shape.
#[derive(Clone)]
struct Plain {
    values: Vec<f32>,
    dims: Vec<usize>,
}

static SLOTS: Mutex<BTreeMap<u32, Plain>> = Mutex::new(BTreeMap::new());

fn put(values: Vec<f32>, dims: Vec<usize>) -> Handle {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = slots.last_key_value().map_or(0, |(last, _)| last + 1);
    slots.insert(slot, Plain { values, dims });
    Handle { slot, generation: 7 }
}

fn get(handle: Handle) -> Result<Plain> {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.get(&handle.slot).cloned().ok_or_else(|| Error::new(ErrorCode::STALE_HANDLE, "a stale handle"))
}

fn sizes(list: RSlice<'_, u64>) -> Vec<usize> {
    list.iter().map(|&n| n as usize).collect()
}

fn unknown<T>(what: &str) -> Answer<T> {
    guard_ffi(what, || Err(Error::new(ErrorCode::UNKNOWN_OP, format!("{what} is unknown to this host"))))
}

/// The same number for the same name and place, in every host of this program.
fn drawn(name: &str, i: usize) -> f32 {
    let seed: usize = name.bytes().map(usize::from).sum();
    ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5
}

extern "C" fn retain(_: ContextId, x: Handle) -> Answer<Handle> {
    guard_ffi("retain", || get(x).map(|t| put(t.values, t.dims)))
}
extern "C" fn release(_: ContextId, x: Handle) -> Answer<()> {
    guard_ffi("release", || {
        let taken = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&x.slot);
        taken.map(drop).ok_or_else(|| Error::new(ErrorCode::STALE_HANDLE, "a stale handle"))
    })
}
extern "C" fn dims(_: ContextId, x: Handle) -> Answer<RVec<u64>> {
    guard_ffi("dims", || Ok(get(x)?.dims.iter().map(|&n| n as u64).collect()))
}
extern "C" fn read(_: ContextId, x: Handle) -> Answer<RVec<f32>> {
    guard_ffi("read", || Ok(get(x)?.values.into()))
}
extern "C" fn create(_: ContextId, values: RSlice<'_, f32>, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("create", || Ok(put(values.to_vec(), sizes(shape))))
}
extern "C" fn full(_: ContextId, value: f64, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("full", || {
        let dims = sizes(shape);
        Ok(put(vec![value as f32; dims.iter().product()], dims))
    })
}
extern "C" fn parameter(_: ContextId, name: RStr<'_>, shape: RSlice<'_, u64>, _: InitSpec) -> Answer<Handle> {
    guard_ffi("parameter", || {
        let dims = sizes(shape);
        Ok(put((0..dims.iter().product()).map(|i| drawn(name.as_str(), i)).collect(), dims))
    })
}
extern "C" fn detach(context: ContextId, x: Handle) -> Answer<Handle> {
    retain(context, x)
}
extern "C" fn unary(_: ContextId, op: UnaryOp, _: Handle) -> Answer<Handle> {
    unknown(op.name())
}
extern "C" fn affine(_: ContextId, x: Handle, mul: f64, add: f64) -> Answer<Handle> {
    guard_ffi("affine", || {
        let t = get(x)?;
        Ok(put(t.values.iter().map(|v| (f64::from(*v) * mul + add) as f32).collect(), t.dims))
    })
}
extern "C" fn power(_: ContextId, _: Handle, _: f64) -> Answer<Handle> {
    unknown("power")
}
extern "C" fn clamp(_: ContextId, _: Handle, _: f64, _: f64) -> Answer<Handle> {
    unknown("clamp")
}
extern "C" fn binary(_: ContextId, op: BinaryOp, a: Handle, b: Handle) -> Answer<Handle> {
    guard_ffi(op.name(), || {
        let (a, b) = (get(a)?, get(b)?);
        if op != BinaryOp::ADD || a.dims != b.dims {
            return Err(Error::new(ErrorCode::UNKNOWN_OP, "this host adds tensors of one shape"));
        }
        Ok(put(a.values.iter().zip(&b.values).map(|(a, b)| a + b).collect(), a.dims))
    })
}
extern "C" fn matmul(_: ContextId, a: Handle, b: Handle) -> Answer<Handle> {
    guard_ffi("matmul", || {
        let (a, b) = (get(a)?, get(b)?);
        let ([n, k], [l, m]) = (&a.dims[..], &b.dims[..]) else {
            return Err(Error::new(ErrorCode::UNKNOWN_OP, "this host multiplies matrices"));
        };
        if k != l {
            return Err(Error::new(ErrorCode::INVALID, format!("matmul: {:?} times {:?}", a.dims, b.dims)));
        }
        let cell = |i: usize, j: usize| (0..*k).map(|x| a.values[i * k + x] * b.values[x * m + j]).sum();
        let values = (0..n * m).map(|at| cell(at / m, at % m)).collect();
        Ok(put(values, vec![*n, *m]))
    })
}
extern "C" fn reduce(_: ContextId, op: ReduceOp, _: Handle, _: u64) -> Answer<Handle> {
    unknown(op.name())
}
extern "C" fn softmax(_: ContextId, x: Handle, axis: u64) -> Answer<Handle> {
    guard_ffi("softmax", || {
        let (t, axis) = (get(x)?, axis as usize);
        if t.dims[..axis].iter().chain(&t.dims[axis + 1..]).any(|n| *n != 1) {
            return Err(Error::new(ErrorCode::UNKNOWN_OP, "this host takes the softmax of a list"));
        }
        let top = t.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f32> = t.values.iter().map(|v| (v - top).exp()).collect();
        let sum: f32 = e.iter().sum();
        Ok(put(e.iter().map(|v| v / sum).collect(), t.dims))
    })
}
extern "C" fn log_softmax(_: ContextId, _: Handle, _: u64) -> Answer<Handle> {
    unknown("log_softmax")
}
extern "C" fn layer_norm(_: ContextId, _: Handle, _: Handle, _: Handle, _: f64) -> Answer<Handle> {
    unknown("layer_norm")
}
extern "C" fn reshape(_: ContextId, x: Handle, shape: RSlice<'_, u64>) -> Answer<Handle> {
    guard_ffi("reshape", || Ok(put(get(x)?.values, sizes(shape))))
}
extern "C" fn permute(_: ContextId, _: Handle, _: RSlice<'_, u64>) -> Answer<Handle> {
    unknown("permute")
}
extern "C" fn broadcast_to(_: ContextId, _: Handle, _: RSlice<'_, u64>) -> Answer<Handle> {
    unknown("broadcast_to")
}
extern "C" fn narrow(_: ContextId, _: Handle, _: u64, _: u64, _: u64) -> Answer<Handle> {
    unknown("narrow")
}
extern "C" fn concat(_: ContextId, _: RSlice<'_, Handle>, _: u64) -> Answer<Handle> {
    unknown("concat")
}
extern "C" fn index_select(_: ContextId, _: Handle, _: u64, _: RSlice<'_, u64>) -> Answer<Handle> {
    unknown("index_select")
}
extern "C" fn exec(
    _: ContextId,
    name: RStr<'_>,
    _: RSlice<'_, Handle>,
    _: RSlice<'_, Entry>,
) -> Answer<RVec<Handle>> {
    unknown(name.as_str())
}
extern "C" fn log(_: ContextId, _: u32, _: RStr<'_>) -> Answer<()> {
    guard_ffi("log", || Ok(()))
}
extern "C" fn progress(_: ContextId, _: f64, _: RStr<'_>) -> Answer<()> {
    guard_ffi("progress", || Ok(()))
}
/// Where the slices lie of the one view that this host has; it sends the view's id with every call.
fn lie(view: ViewId, values: impl IntoIterator<Item = f64>) -> Answer<RVec<f64>> {
    guard_ffi("where slices lie", || match view {
        VIEW => Ok(values.into_iter().collect()),
        _ => Err(Error::new(ErrorCode::STALE_HANDLE, "another view")),
    })
}
const VIEW: ViewId = ViewId(9);
extern "C" fn slice_positions(_: ContextId, view: ViewId) -> Answer<RVec<f64>> {
    lie(view, (0..SLICES).map(|s| 5.0 * s as f64 - 10.0))
}
extern "C" fn slice_centres(_: ContextId, view: ViewId) -> Answer<RVec<f64>> {
    lie(view, (0..SLICES).flat_map(|s| [0.0, 0.0, 5.0 * s as f64 - 10.0]))
}
extern "C" fn token_spacing(_: ContextId, view: ViewId) -> Answer<RVec<f64>> {
    lie(view, [5.0, 14.0, 14.0])
}
// More functions of the table stand here.

fn table() -> HostOps_Ref {
    HostOps {
        abi_version: ABI_VERSION,
        retain,
        release,
        dims,
        read,
        create,
        full,
        parameter,
        detach,
        unary,
        affine,
        power,
        clamp,
        binary,
        matmul,
        reduce,
        softmax,
        log_softmax,
        layer_norm,
        reshape,
        permute,
        broadcast_to,
        narrow,
        concat,
        index_select,
        exec,
        log,
        progress,
        slice_positions,
        slice_centres,
        token_spacing,
        // More fields of the table stand here.
    }
    .leak_into_prefix()
}

fn open(path: &str) -> std::result::Result<PluginModule_Ref, String> {
    // SAFETY: what is opened was built by the test that runs this program.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    // SAFETY: the symbol is written by `export_plugin!` as a static LibHeader; the library stays open.
    let header = unsafe { library.get::<AbiHeaderRef>(HEADER_SYMBOL.as_bytes()) }.map_err(|e| e.to_string())?;
    let header: &'static LibHeader = header.upgrade().map_err(|_| "another abi_stable".to_owned())?;
    layout::check(header)
        .map_err(|lines| format!("{path}: built against another plugin-api\n{}", lines.join("\n")))?;
    // SAFETY: the layout was checked.
    unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() }.map_err(|e| e.to_string())
}

fn entry(key: &str, value: &str) -> Entry {
    Entry { key: key.into(), value: value.into() }
}

const SLICES: usize = 5;
const WIDTH: usize = 384;

fn answer(module: PluginModule_Ref) -> std::result::Result<String, String> {
    let settings = [
        ("backbone.family", "dinov2"),
        ("backbone.embed_dim", "384"),
        ("backbone.blocks", "12"),
        ("backbone.heads", "6"),
        ("backbone.patch_size", "14"),
        ("views", "axial"),
        ("view", "axial"),
        ("outputs", "1"),
        ("loss.kind", "bce"),
        ("loss.gamma", "2"),
        ("loss.alpha", "0.25"),
        ("loss.class_weights", ""),
        ("grid.axial", "2,2"),
        ("view_id.axial", "9"),
        // A host may always say more than a plugin knows.
        ("something.new", "ignored"),
    ];
    let settings: Vec<Entry> = settings.iter().map(|(k, v)| entry(k, v)).collect();
    let settings = RSlice::from_slice(&settings);
    let plain = |e: AbiError| e.message.into_string();
    let (ops, context) = (table(), ContextId(0));
    let task = (module.instantiate())().into_result().map_err(plain)?;
    // SAFETY: data and tables come from the same object, here and below, and are dropped once.
    let adapter = unsafe { (task.table.adapter())(task.data, ops, context, settings) };
    let kind = adapter.into_result().map_err(plain)?.settings.iter().map(|e| e.value.to_string()).collect::<Vec<_>>();
    // SAFETY: as above.
    let head = unsafe { (task.table.head())(task.data, ops, context, settings) }.into_result().map_err(plain)?;
    let class = put((0..SLICES * WIDTH).map(|i| drawn("class", i)).collect(), vec![SLICES, WIDTH]);
    let patch = put(vec![0.0; SLICES * 4 * WIDTH], vec![SLICES, 4, WIDTH]);
    let named = |name: &str, handle| NamedHandle { name: name.into(), handle };
    let tensors: RVec<NamedHandle> = vec![
        named("axial/class_tokens", class),
        named("axial/patch_tokens", patch),
        named("axial/something_new", put(vec![1.0], vec![1])),
    ]
    .into();
    // SAFETY: as above.
    let answers = unsafe { (head.table.forward())(head.data, ops, context, settings, tensors) };
    let answers = answers.into_result().map_err(plain)?;
    let logits = answers.iter().find(|n| n.name == "logits").ok_or("no logits")?;
    let logits = get(logits.handle).map_err(|e| e.to_string())?.values;
    for answer in answers {
        let _ = release(context, answer.handle);
    }
    let more = String::new();
    // SAFETY: as above; neither is used afterwards.
    unsafe {
        (head.table.drop())(head.data).into_result().map_err(plain)?;
        (task.table.drop())(task.data).into_result().map_err(plain)?;
    }
    let left = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).len();
    Ok(format!("{} {logits:?}{more}, {left} handles left", kind.join(" ")))
}

fn main() {
    println!("host {}.{}", ABI_VERSION >> 16, ABI_VERSION & 0xffff);
    for path in std::env::args().skip(1) {
        match open(&path) {
            Err(why) => println!("refused {why}"),
            Ok(module) => {
                let v = module.abi_version();
                match answer(module) {
                    Ok(told) => println!("plugin {}.{} {told}", v >> 16, v & 0xffff),
                    Err(why) => println!("plugin {}.{} failed: {why}", v >> 16, v & 0xffff),
                }
            }
        }
    }
}
