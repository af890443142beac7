//! A plugin that panics or answers nonsense: an error that names plugin, method and place, and the host lives.

use super::*;

/// The misbehaving plugin with its way of going wrong, which it is told by the name of its view.
fn in_this_way(way: &str) -> Result<Task, PluginError> {
    let mut library = opened(&support::plugin("misbehaves"));
    library.embedded.manifest.views[0].name = way.to_owned();
    built(&library, drawn(0))
}

fn setup_error(way: &str) -> String {
    in_this_way(way).err().unwrap_or_else(|| panic!("{way}: was built")).to_string()
}

/// What the head's call says; afterwards nothing of the call is left in the host.
fn forward_error(way: &str) -> String {
    let task = in_this_way(way).unwrap();
    let before = task.live_handles();
    let error = answer(&task).err().unwrap_or_else(|| panic!("{way}: answered")).to_string();
    assert_eq!(task.live_handles(), before, "{way}: handles stayed behind");
    assert!(error.starts_with("plugin misbehaves: forward: "), "{error}");
    error
}

fn names_place(error: &str, words: &str) {
    let place = ["src/lib.rs:", "src\\lib.rs:"].iter().find_map(|p| error.split_once(p));
    let line = place.and_then(|(_, rest)| rest.split(':').next()).and_then(|n| n.parse::<u32>().ok());
    assert!(line.is_some_and(|n| n > 1) && error.ends_with(words), "{error}");
}

#[test]
fn a_plugin_that_panics_is_an_error_and_the_host_lives() {
    let task = built(&opened(&support::plugin("panics")), drawn(0)).unwrap();
    let before = task.live_handles();
    for _ in 0..3 {
        let error = answer(&task).err().unwrap().to_string();
        assert!(error.starts_with("plugin panics: forward: "), "{error}");
        names_place(&error, "1 views, and this plugin gives up");
        assert_eq!(task.live_handles(), before);
    }
    assert!(built(&opened(&support::plugin("mean_probe")), drawn(0)).is_ok());
}

#[test]
fn a_panic_in_any_method_names_plugin_method_and_place() {
    names_place(&forward_error("panic_in_forward"), "gives up after 1 views");
    let error = setup_error("panic_in_adapter");
    assert!(error.starts_with("plugin misbehaves: adapter: "), "{error}");
    names_place(&error, "an adapter of no kind");
    let error = setup_error("panic_in_head");
    assert!(error.starts_with("plugin misbehaves: head: "), "{error}");
    names_place(&error, "a head of no shape");
    let library = opened(&support::plugin("constructor_panics"));
    let error = built(&library, drawn(0)).err().unwrap().to_string();
    assert!(error.starts_with("plugin constructor_panics: constructor: "), "{error}");
    names_place(&error, "no table of labels");

    let library = opened(&support::plugin("misbehaves"));
    let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
    let backbone = backbone(384, 12, 14);
    let task = Task::build(&library, &backbone, drawn(0), DType::F32, &Device::Cpu, &options);
    let error = task.err().unwrap().to_string();
    assert!(error.starts_with("plugin misbehaves: segmentation: "), "{error}");
    names_place(&error, "no pixels");
    let task = in_this_way("whole").unwrap();
    let one = Tensor::ones((1, 1), DType::F32, &Device::Cpu).unwrap();
    let before = task.live_handles();
    let error = task.loss(&one, &one, &one).err().unwrap().to_string();
    assert!(error.starts_with("plugin misbehaves: loss: "), "{error}");
    names_place(&error, "no loss");
    assert_eq!(task.live_handles(), before);
}

#[test]
fn a_panic_in_drop_is_told_when_the_task_is_closed() {
    let error = in_this_way("panic_in_drop").unwrap().close().unwrap_err().to_string();
    assert!(error.starts_with("plugin misbehaves: drop of the head: "), "{error}");
    names_place(&error, "cannot let go");
    // Dropped without a word, it is logged.
    drop(in_this_way("panic_in_drop").unwrap());
    in_this_way("whole").unwrap().close().unwrap();
}

#[test]
fn a_panic_whose_payload_panics_and_one_that_is_thrown_again_are_errors_too() {
    assert!(forward_error("payload_panics").ends_with("a panic without text"));
    names_place(&forward_error("caught_and_thrown_again"), "the first words");
}

#[test]
fn wrong_answers_are_errors_and_leave_no_handles() {
    for (way, words) in [
        ("error_in_forward", "no such protocol"),
        ("host_operation_fails", "has not"),
        ("wrong_shape", "logits of shape [3], expected [1]"),
        ("nan_logits", "logits with NaN"),
        ("too_many_weights", "slice weights for 2 views, expected 1 or none"),
        ("short_weights", "slice weights of shape [1], expected [5]"),
        ("stale_logits", "is stale or not this task's"),
        ("absurd_broadcast", "is too large"),
        ("absurd_outer", "is too large"),
        ("absurd_product", "is too large"),
    ] {
        let error = forward_error(way);
        assert!(error.contains(words) && error.lines().count() == 1, "{way}: {error}");
    }
    for (way, words) in [
        ("absurd_parameter", "`huge`: a tensor of shape [1099511627776, 1024] is too large"),
        ("overflowing_parameter", "is too large"),
        ("absurd_rank", "LoRA rank 18446744073709551615: expected 1 to 384"),
    ] {
        let error = setup_error(way);
        assert!(error.contains(words), "{way}: {error}");
    }
}

#[test]
fn a_handle_that_a_head_keeps_is_counted_until_the_task_is_gone() {
    let task = in_this_way("keeps_handles").unwrap();
    let before = task.live_handles();
    answer(&task).unwrap();
    answer(&task).unwrap();
    assert_eq!(task.live_handles(), before + 2);
    task.close().unwrap();
}
