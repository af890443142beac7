//! Plugins built on another plugin-api: what differs is told in five lines, what was appended does no harm.

use super::*;

const TABLE: &str = "plugin-api/src/abi/table.rs";
const OPS: &str = "plugin-api/src/abi/ops.rs";

/// A plugin whose table has `affine` with an f32.
fn changed_function() -> std::path::PathBuf {
    let (old, new) = (
        "pub affine: extern \"C\" fn(ContextId, Handle, f64, f64)",
        "pub affine: extern \"C\" fn(ContextId, Handle, f64, f32)",
    );
    support::foreign(
        "changed_function",
        "attention_probe",
        &[
            (TABLE, old, new),
            (
                OPS,
                "extern \"C\" fn affine(context: ContextId, handle: Handle, mul: f64, add: f64) -> Answer<Handle> {",
                "extern \"C\" fn affine(context: ContextId, handle: Handle, mul: f64, add: f32) -> Answer<Handle> {\n        let add = f64::from(add);",
            ),
            ("plugin-api/src/tensor.rs", "self.handle, mul, add))", "self.handle, mul, add as f32))"),
        ],
    )
}

#[test]
fn a_changed_function_is_told_in_five_lines_whatever_was_loaded_before() {
    let (good, bad) = (support::plugin("mean_probe"), changed_function());
    let first = refused(&bad);
    println!("{first}");
    assert!(first.lines().count() <= 5, "{first}");
    assert!(
        first.contains("  at HostOps > affine: host fn(ContextId, Handle, f64, f64) -> RResult, plugin fn(ContextId, Handle, f64, f32) -> RResult"),
        "{first}"
    );
    let task = built(&opened(&good), drawn(0)).unwrap();
    let before = logits(&task);
    assert_eq!(refused(&bad), first);
    assert_eq!(logits(&built(&opened(&good), drawn(0)).unwrap()), before);
    assert_eq!(logits(&task), before);
}

#[test]
fn a_changed_frozen_struct_is_told_by_its_name() {
    let bad = support::foreign(
        "changed_struct",
        "mean_probe",
        &[
            (
                "plugin-api/src/abi/types.rs",
                "    /// Second number.\n    pub b: f64,",
                "    /// Second number.\n    pub b: f64,\n    /// Third.\n    pub c: f64,",
            ),
            ("plugin-api/src/params.rs", "b: 0.0 }", "b: 0.0, c: 0.0 }"),
            ("plugin-api/src/params.rs", "b: std }", "b: std, c: 0.0 }"),
            ("plugin-api/src/params.rs", "b: high }", "b: high, c: 0.0 }"),
        ],
    );
    let error = refused(&bad);
    println!("{error}");
    assert!(error.lines().count() <= 5 && error.contains("  at InitSpec: host "), "{error}");
}

#[test]
fn a_plugin_whose_table_has_one_function_more_loads_on_this_host() {
    let newer = support::foreign(
        "appended_function",
        "attention_probe",
        &[
            (
                TABLE,
                "    pub token_spacing: extern \"C\" fn(ContextId, ViewId) -> Answer<RVec<f64>>,",
                "    pub token_spacing: extern \"C\" fn(ContextId, ViewId) -> Answer<RVec<f64>>,\n    /// Later.\n    pub later: extern \"C\" fn(ContextId, Handle) -> Answer<Handle>,",
            ),
            (
                OPS,
                "        token_spacing: Self::token_spacing,",
                "        token_spacing: Self::token_spacing,\n        later: Self::retain,",
            ),
        ],
    );
    let (newer, ours) = (opened(&newer), opened(&support::plugin("attention_probe")));
    let answers = [&newer, &ours].map(|l| logits(&built(l, drawn(5)).unwrap()));
    assert_eq!(answers[0], answers[1]);
}
