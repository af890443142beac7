//! Handles that are stale, foreign or made up are errors, and nothing leaks.

use crate::plugin::{Context, ParameterSource, host_ops};
use abi_stable::std_types::RVec;
use anymc3d_plugin_api::abi::types::{AbiError, ContextId, Entry, ErrorCode, Handle};
use anymc3d_plugin_api::{Host, Init, Params, SliceGeometry};
use candle_core::{DType, Device};
use std::collections::BTreeMap;
use std::sync::Arc;

fn host() -> (&'static Context, Host) {
    let source = ParameterSource::Training { seed: 7, start: BTreeMap::new() };
    let context = Context::create("handles", DType::F32, Device::Cpu, source);
    (context, Host::new(host_ops(), context.id()))
}

#[test]
fn a_handle_that_was_given_back_is_stale() {
    let (context, host) = host();
    let tensor = host.tensor(&[1.0, 2.0], &[2]).unwrap();
    let ghost = host.adopt(tensor.handle());
    drop(tensor);
    assert_eq!(ghost.neg().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    // The slot is used again, with a generation of its own.
    let next = host.tensor(&[5.0], &[1]).unwrap();
    assert_eq!(next.handle().slot, ghost.handle().slot);
    assert_eq!(ghost.dims().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    std::mem::forget(ghost);
    drop(next);
    assert_eq!(context.live_handles(), 0);
}

#[test]
fn a_handle_of_another_task_is_refused() {
    let ((_, ours), (_, theirs)) = (host(), host());
    let _first = ours.tensor(&[1.0], &[1]).unwrap();
    let foreign = theirs.tensor(&[1.0], &[1]).unwrap();
    let stolen = ours.adopt(foreign.handle());
    assert_eq!(stolen.neg().unwrap_err().code(), ErrorCode::STALE_HANDLE);
}

#[test]
fn made_up_handles_and_contexts_are_errors() {
    let (_, ours) = host();
    let nothing = ours.adopt(Handle { slot: u32::MAX, generation: 1 });
    assert_eq!(nothing.to_vec().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    let nowhere = Host::new(host_ops(), ContextId(u64::MAX));
    assert_eq!(nowhere.full(1.0, &[1]).unwrap_err().code(), ErrorCode::STALE_HANDLE);
}

#[test]
fn wrong_shapes_are_errors_that_say_which() {
    let (_, host) = host();
    let a = host.full(1.0, &[2, 3]).unwrap();
    let b = host.full(1.0, &[2, 4]).unwrap();
    assert_eq!(a.matmul(&b).unwrap_err().message(), "matmul: [2, 3] times [2, 4]");
    assert_eq!(a.sum(2).unwrap_err().message(), "sum: no axis 2 in [2, 3]");
    assert!(a.add(&b).is_err());
    assert!(
        host.tensor(&[1.0], &[2]).unwrap_err().message().contains("1 elements for a tensor of shape [2]")
    );
    assert!(host.full(0.0, &[usize::MAX, 8]).is_err());
    assert!(a.narrow(1, 2, 2).is_err());
    assert!(a.permute(&[0, 0]).is_err());
    assert!(a.index_select(0, &[2]).is_err());
}

#[test]
fn a_parameter_is_one_by_name_and_its_draw_depends_on_seed_and_name_only() {
    let ((_, one), (_, two)) = (host(), host());
    let (p, q) = (Params::new(one), Params::new(two));
    let first = p.get("query", &[8], Init::trunc_normal(0.02)).unwrap().to_vec().unwrap();
    q.get("other", &[3], Init::ones()).unwrap();
    let again = q.get("query", &[8], Init::trunc_normal(0.02)).unwrap().to_vec().unwrap();
    assert_eq!(first, again);
    assert!(first.iter().all(|v| v.abs() <= 0.04) && first.iter().any(|v| *v != 0.0));
    let refusal = p.get("query", &[9], Init::zeros()).unwrap_err();
    assert_eq!(refusal.code(), ErrorCode::PARAMETER);
}

#[test]
fn a_name_that_later_hosts_know_is_an_unknown_operation_here() {
    let (_, host) = host();
    let ops = host_ops();
    let x = host.full(1.0, &[1]).unwrap();
    let answer = (ops.unary())(context_of(&x), anymc3d_plugin_api::abi::types::UnaryOp(999), x.handle());
    assert_eq!(answer.into_result().unwrap_err().code, ErrorCode::UNKNOWN_OP);
}

#[test]
fn a_name_or_an_attribute_that_later_hosts_know_is_an_unknown_operation_here() {
    let (context, host) = host();
    let ops = host_ops();
    let (x, w) = (host.full(1.0, &[1, 2, 2, 2]).unwrap(), host.full(1.0, &[1, 1, 1, 1, 1]).unwrap());
    let inputs = [x.handle(), w.handle()];
    let exec = |name: &str, inputs: &[Handle], attributes: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        let attributes: Vec<Entry> = attributes.iter().map(entry).collect();
        (ops.exec())(context.id(), name.into(), inputs.into(), (&*attributes).into()).into_result()
    };
    let code = |answer: Result<RVec<Handle>, AbiError>| answer.unwrap_err().code;
    assert_eq!(code(exec("conv4d", &inputs, &[])), ErrorCode::UNKNOWN_OP);
    assert_eq!(code(exec("conv3d", &inputs, &[("dilation", "2,2,2")])), ErrorCode::UNKNOWN_OP);
    for attributes in [[("stride", "1,1")], [("stride", "1,1,0")], [("padding", "-1,0,0")], [("padding", "")]]
    {
        assert_eq!(code(exec("conv3d", &inputs, &attributes)), ErrorCode::INVALID, "{attributes:?}");
    }
    assert_eq!(code(exec("conv3d", &inputs[..1], &[])), ErrorCode::INVALID);
    assert_eq!(code(exec("resize_linear", &inputs[..1], &[])), ErrorCode::INVALID);
    let made = exec("conv3d", &inputs, &[]).unwrap();
    made.into_iter().for_each(|handle| drop(host.adopt(handle)));
    drop((x, w));
    assert_eq!(context.live_handles(), 0);
}

#[test]
fn volumes_that_do_not_fit_each_other_are_errors_and_not_panics() {
    let (_, host) = host();
    let x = host.full(1.0, &[2, 3, 3, 3]).unwrap();
    let w = host.full(1.0, &[1, 2, 3, 3, 3]).unwrap();
    let other = host.full(1.0, &[1, 1, 3, 3, 3]).unwrap();
    let big = host.full(1.0, &[1, 2, 4, 1, 1]).unwrap();
    let empty = host.full(1.0, &[0, 3, 3, 3]).unwrap();
    let message = x.conv3d(&big, [1; 3], [0; 3]).unwrap_err().message().to_owned();
    assert!(message.contains("kernel of [4, 1, 1]") && message.contains("[3, 3, 3]"), "{message}");
    assert!(x.conv3d(&other, [1; 3], [0; 3]).is_err() && x.conv3d(&x, [1; 3], [0; 3]).is_err());
    assert!(x.conv3d(&w, [1, 0, 1], [1; 3]).is_err() && empty.conv3d(&w, [1; 3], [1; 3]).is_err());
    for padding in [1 << 20, usize::MAX / 2, usize::MAX] {
        assert!(x.conv3d(&w, [1; 3], [padding; 3]).unwrap_err().code() == ErrorCode::INVALID);
    }
    assert!(x.resize_linear([3, 0, 3]).is_err() && x.resize_linear([1 << 20; 3]).is_err());
    assert!(
        empty.resize_linear([1; 3]).is_err()
            && host.full(1.0, &[3, 3]).unwrap().resize_linear([1; 3]).is_err()
    );
}

#[test]
fn an_absurd_shape_is_an_error_and_not_an_allocation() {
    let (context, host) = host();
    let row = host.full(1.0, &[1, 1 << 20]).unwrap();
    let column = row.reshape(&[1 << 20, 1]).unwrap();
    let refused = [
        row.broadcast_to(&[1 << 40, 1 << 20]),
        column.add(&row),
        column.matmul(&row),
        row.index_select(0, &vec![0; 1 << 14]).and_then(|wide| wide.t()?.index_select(1, &vec![0; 1 << 14])),
        Params::new(host).get("huge", &[1 << 40, 1 << 10], Init::zeros()),
        Params::new(host).get("overflows", &[1 << 40, 1 << 40], Init::zeros()),
    ];
    for (i, answer) in refused.into_iter().enumerate() {
        let error = answer.unwrap_err();
        assert!(error.message().contains("is too large"), "{i}: {error}");
    }
    assert!(context.parameters().is_empty());
}

#[test]
fn an_axis_beyond_this_machine_is_an_error() {
    let (context, host) = host();
    let x = host.full(1.0, &[2, 3]).unwrap();
    let ops = host_ops();
    for axis in [2, 1 << 32, u64::MAX] {
        let (id, x) = (context.id(), x.handle());
        let list = [0u64];
        for answer in [
            (ops.softmax())(id, x, axis),
            (ops.log_softmax())(id, x, axis),
            (ops.narrow())(id, x, axis, 0, 1),
            (ops.narrow())(id, x, 0, axis, u64::MAX),
            (ops.index_select())(id, x, axis, (&list[..]).into()),
        ] {
            assert_eq!(answer.into_result().unwrap_err().code, ErrorCode::INVALID, "axis {axis}");
        }
    }
}

#[test]
fn a_retired_context_holds_no_memory_and_its_handles_are_stale() {
    let (context, host) = host();
    let kept = host.full(1.0, &[4]).unwrap();
    Params::new(host).get("query", &[8], Init::ones()).unwrap();
    context.retire();
    assert_eq!(context.live_handles(), 0);
    assert!(context.parameters().is_empty() && context.mismatches().is_empty());
    assert_eq!(kept.dims().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    drop(kept);
    assert_eq!(context.live_handles(), 0);
}

#[test]
fn a_view_is_told_of_for_the_length_of_a_call_and_to_its_own_task() {
    let ((context, _), (other, _)) = (host(), host());
    let ops = host_ops();
    let asked = ops.slice_positions().expect("a host of 1.1 has it");
    let view = context.lend(Arc::new(SliceGeometry::evenly_spaced(3, [2.5, 14.0, 7.0])));
    let id = view.id();
    assert_eq!(*asked(context.id(), id).into_result().unwrap(), [-2.5, 0.0, 2.5]);
    let centres = ops.slice_centres().unwrap()(context.id(), id).into_result().unwrap();
    assert_eq!(*centres, [0.0, 0.0, -2.5, 0.0, 0.0, 0.0, 0.0, 0.0, 2.5]);
    let spacing = ops.token_spacing().unwrap()(context.id(), id).into_result().unwrap();
    assert_eq!(*spacing, [2.5, 14.0, 7.0]);
    assert_eq!(asked(other.id(), id).into_result().unwrap_err().code, ErrorCode::STALE_HANDLE);
    drop(view);
    assert_eq!(asked(context.id(), id).into_result().unwrap_err().code, ErrorCode::STALE_HANDLE);
}

fn context_of(_: &anymc3d_plugin_api::Tensor) -> ContextId {
    // Any context will do: the code is refused before the handle is looked at.
    ContextId(0)
}
