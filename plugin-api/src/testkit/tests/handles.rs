//! Handles, shapes and names that are wrong get the errors that the real host gives.

use crate::abi::types::{ContextId, Entry, ErrorCode, Handle, UnaryOp};
use crate::testkit::{Context, table::host_ops};
use crate::{Host, Init, Params};

#[test]
fn a_handle_that_was_given_back_is_stale_and_its_slot_has_a_new_generation() {
    let context = Context::new(0);
    let tensor = context.tensor(&[1.0, 2.0], &[2]).unwrap();
    let ghost = context.host().adopt(tensor.handle());
    drop(tensor);
    assert_eq!(ghost.neg().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    let next = context.tensor(&[5.0], &[1]).unwrap();
    assert_eq!(next.handle().slot, ghost.handle().slot);
    assert_eq!(ghost.dims().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    std::mem::forget(ghost);
    drop(next);
    assert_eq!(context.live_handles(), 0);
}

#[test]
fn handles_of_another_context_made_up_ones_and_contexts_that_are_gone_are_errors() {
    let (ours, theirs) = (Context::new(0), Context::new(0));
    let foreign = theirs.tensor(&[1.0], &[1]).unwrap();
    let stolen = ours.host().adopt(foreign.handle());
    assert_eq!(stolen.neg().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    let nothing = ours.host().adopt(Handle { slot: u32::MAX, generation: 1 });
    assert_eq!(nothing.to_vec().unwrap_err().code(), ErrorCode::STALE_HANDLE);
    let nowhere = Host::new(host_ops(), ContextId(u64::MAX));
    assert_eq!(nowhere.full(1.0, &[1]).unwrap_err().code(), ErrorCode::STALE_HANDLE);
    let host = theirs.host();
    drop(theirs);
    assert_eq!(host.full(1.0, &[1]).unwrap_err().code(), ErrorCode::STALE_HANDLE);
}

#[test]
fn wrong_shapes_are_errors_that_say_which() {
    let context = Context::new(0);
    let host = context.host();
    let (a, b) = (host.full(1.0, &[2, 3]).unwrap(), host.full(1.0, &[2, 4]).unwrap());
    assert_eq!(a.matmul(&b).unwrap_err().message(), "matmul: [2, 3] times [2, 4]");
    assert_eq!(a.sum(2).unwrap_err().message(), "sum: no axis 2 in [2, 3]");
    assert!(
        host.tensor(&[1.0], &[2]).unwrap_err().message().contains("1 elements for a tensor of shape [2]")
    );
    let absurd = host.full(0.0, &[usize::MAX, 8]);
    for wrong in [
        a.add(&b),
        a.narrow(1, 2, 2),
        a.permute(&[0, 0]),
        a.index_select(0, &[2]),
        a.reshape(&[7]),
        a.broadcast_to(&[3, 3]),
        a.softmax(2),
        a.clamp(1.0, 0.0),
        crate::Tensor::concat(&[&a, &b], 0),
        absurd,
    ] {
        assert_eq!(wrong.unwrap_err().code(), ErrorCode::INVALID);
    }
    let x = host.full(1.0, &[2, 3, 3, 3]).unwrap();
    let big = host.full(1.0, &[1, 2, 4, 1, 1]).unwrap();
    let message = x.conv3d(&big, [1; 3], [0; 3]).unwrap_err().message().to_owned();
    assert!(message.contains("kernel of [4, 1, 1]") && message.contains("[3, 3, 3]"), "{message}");
    assert!(x.conv3d(&big, [1, 0, 1], [1; 3]).is_err() && x.conv3d(&x, [1; 3], [0; 3]).is_err());
    assert!(x.conv3d(&big, [1; 3], [usize::MAX; 3]).is_err() && x.resize_linear([3, 0, 3]).is_err());
}

#[test]
fn a_parameter_is_one_by_name_and_its_draw_depends_on_seed_and_name_only() {
    let (one, two, other) = (Context::new(7), Context::new(7), Context::new(8));
    let query = |c: &Context| {
        Params::new(c.host()).get("query", &[8], Init::trunc_normal(0.02)).unwrap().to_vec().unwrap()
    };
    Params::new(two.host()).get("other", &[3], Init::ones()).unwrap();
    let first = query(&one);
    assert_eq!(first, query(&two));
    assert_ne!(first, query(&other));
    assert!(first.iter().all(|v| v.abs() <= 0.04) && first.iter().any(|v| *v != 0.0));
    let refusal = Params::new(one.host()).get("query", &[9], Init::zeros()).unwrap_err();
    assert_eq!(refusal.code(), ErrorCode::PARAMETER);
}

#[test]
fn codes_names_and_attributes_of_a_later_abi_are_unknown_operations() {
    let context = Context::new(0);
    let (x, w) = (
        context.host().full(1.0, &[1, 2, 2, 2]).unwrap(),
        context.host().full(1.0, &[1, 1, 1, 1, 1]).unwrap(),
    );
    let answer = (host_ops().unary())(context.id(), UnaryOp(999), x.handle());
    assert_eq!(answer.into_result().unwrap_err().code, ErrorCode::UNKNOWN_OP);
    let inputs = [x.handle(), w.handle()];
    let exec = |name: &str, attributes: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
        let attributes: Vec<Entry> = attributes.iter().map(entry).collect();
        let made =
            (host_ops().exec())(context.id(), name.into(), (&inputs[..]).into(), (&*attributes).into());
        made.into_result().map(|handles| handles.len()).map_err(|e| e.code)
    };
    assert_eq!(exec("conv4d", &[]), Err(ErrorCode::UNKNOWN_OP));
    assert_eq!(exec("conv3d", &[("dilation", "2,2,2")]), Err(ErrorCode::UNKNOWN_OP));
    assert_eq!(exec("conv3d", &[("stride", "1,1")]), Err(ErrorCode::INVALID));
    assert_eq!(exec("conv3d", &[]), Ok(1));
}

#[test]
fn what_a_plugin_logs_is_kept_for_the_test() {
    let context = Context::new(0);
    context.host().log(crate::LogLevel::Warning, "no mask");
    context.host().progress(0.256, "reading");
    assert_eq!(context.log_lines(), ["warning: no mask", "progress: 26 % reading"]);
}
