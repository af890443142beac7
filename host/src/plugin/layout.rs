//! Do host and plugin agree on the layout of everything that crosses? Older ⊆ newer, in either direction.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals, ExpectedFound,
    check_layout_compatibility_with_globals,
};
use abi_stable::library::LibHeader;
use abi_stable::type_layout::{TLField, TLFieldOrFunction, TLFunction, TypeLayout};
use anymc3d_plugin_api::abi::objects::PluginModule_Ref;

/// Lines about differences; one of advice follows them.
const DIFFERENCES: usize = 3;
/// Longest piece of a line that abi_stable wrote.
const PIECE: usize = 90;

/// `Ok` if one of the two layouts is a prefix of the other; else at most four lines that say where they differ.
///
/// Each check uses fresh globals: with process-wide globals the result would depend on what was loaded before.
pub fn check(header: &LibHeader) -> Result<(), Vec<String>> {
    let host = <PluginModule_Ref as StableAbi>::LAYOUT;
    let Some(plugin) = header.layout() else {
        return Err(vec![
            "  the plugin carries no layout; it must be built with `export_plugin!`".to_owned(),
        ]);
    };
    let contained = |interface: &'static TypeLayout, implementation: &'static TypeLayout| {
        check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new())
    };
    let Err(as_newer) = contained(host, plugin) else { return Ok(()) };
    let Err(as_older) = contained(plugin, host) else { return Ok(()) };
    // One of the two directions also counts what was only appended: the shorter report is the plugin's fault.
    let (lines, others) = (differences(&as_newer, true), differences(&as_older, false));
    let mut lines = if others.len() < lines.len() { others } else { lines };
    let more = lines.len().saturating_sub(DIFFERENCES);
    lines.truncate(DIFFERENCES);
    let more = if more > 0 { format!("{more} more; ") } else { String::new() };
    lines.push(format!("  {more}rebuild the plugin with this host's plugin-api, or upgrade the host"));
    Err(lines)
}

/// abi_stable's own report has up to thousands of lines; the place and the two sides are what helps.
fn differences(errors: &AbiInstabilityErrors, host_first: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for error in errors.errors.iter().filter(|e| !e.errs.is_empty()) {
        let (place, first, second) = difference(error);
        let (host, plugin) = if host_first { (first, second) } else { (second, first) };
        let line = format!("  at {place}: host {host}, plugin {plugin}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Place, and the two sides of a difference: functions as a whole where a parameter or an answer differs.
fn difference(error: &AbiInstabilityError) -> (String, String, String) {
    let frames = &error.stack_trace;
    let Some(last) = frames.last() else {
        let (first, second) = sides(&error.errs[0]);
        return ("the root module".to_owned(), first, second);
    };
    let of_function = |at: usize| at > 0 && matches!(frames[at - 1].expected, TLFieldOrFunction::Function(_));
    let end = frames.len() - 1;
    let type_differs = error.errs.iter().any(|e| matches!(e, AbiInstability::Name(_)));
    // The function itself, or another type at one of its parameters.
    let function = match (&last.expected, &last.found) {
        (TLFieldOrFunction::Function(a), TLFieldOrFunction::Function(b)) => Some((end, a, b)),
        _ if type_differs && of_function(end) => match (&frames[end - 1].expected, &frames[end - 1].found) {
            (TLFieldOrFunction::Function(a), TLFieldOrFunction::Function(b)) => Some((end - 1, a, b)),
            _ => None,
        },
        _ => None,
    };
    if let Some((at, a, b)) = function {
        // The frame before a function is the field that holds it.
        let holder = at.checked_sub(1).and_then(|i| as_field(&frames[i].expected).map(|f| (i, f)));
        let place = holder.map_or_else(|| "a function".to_owned(), |(i, f)| inside(frames, i, f));
        return (place, signature(a), signature(b));
    }
    let (first, second) = sides(&error.errs[0]);
    let Some(field) = as_field(&last.expected) else { return ("the root module".to_owned(), first, second) };
    // A difference of a field's type as a whole is that field's; one inside its type is that type's.
    let place = if type_differs { inside(frames, end, field) } else { short(field.layout()) };
    match &error.errs[0] {
        AbiInstability::UnexpectedField(e) => {
            (format!("{place} > {}", e.expected.name()), field_of(&e.expected), field_of(&e.found))
        }
        _ => (place, first, second),
    }
}

type Frames = [ExpectedFound<TLFieldOrFunction>];

fn as_field(frame: &TLFieldOrFunction) -> Option<&TLField> {
    match frame {
        TLFieldOrFunction::Field(f) => Some(f),
        TLFieldOrFunction::Function(_) => None,
    }
}

/// `HostOps > affine`: the type that holds the field of frame `at`, and the field.
fn inside(frames: &Frames, at: usize, field: &TLField) -> String {
    let holder = frames[..at].iter().rev().find_map(|f| as_field(&f.expected));
    let holder = holder.map_or_else(|| "PluginModule".to_owned(), |f| short(f.layout()));
    format!("{holder} > {}", field.name())
}

/// A type's name without the crate's path, and with what it is made of where that says what it is.
fn short(layout: &'static TypeLayout) -> String {
    cut(&layout.full_type().to_string())
}

fn signature(f: &TLFunction) -> String {
    let name = |layout: extern "C" fn() -> &'static TypeLayout| layout().name();
    let parameters: Vec<&str> = f.param_type_layouts.iter().map(name).collect();
    let answer = f.return_type_layout().map_or("()", name);
    let unsafety = if f.fn_qualifs.is_unsafe() { "unsafe " } else { "" };
    format!("{unsafety}fn({}) -> {answer}", parameters.join(", "))
}

fn field_of(field: &TLField) -> String {
    format!("`{}: {}`", field.name(), field.layout().name())
}

/// The two sides of what abi_stable found at one place.
fn sides(error: &AbiInstability) -> (String, String) {
    use AbiInstability as A;
    fn both<T>(e: &ExpectedFound<T>, text: impl Fn(&T) -> String) -> (String, String) {
        (text(&e.expected), text(&e.found))
    }
    match error {
        A::Name(e) | A::GenericParamCount(e) => both(e, |t| cut(&t.to_string())),
        A::Package(e) => both(e, |p| format!("crate {p}")),
        A::PackageVersion(e) => both(e, |v| format!("version {v}")),
        A::FieldCountMismatch(e) => both(e, |n| format!("{n} fields")),
        A::Size(e) => both(e, |n| format!("{n} bytes")),
        A::Alignment(e) => both(e, |n| format!("aligned to {n}")),
        A::MismatchedPrefixSize(e) => both(e, |n| format!("a prefix of {n} fields")),
        A::UnexpectedField(e) | A::FieldLifetimeMismatch(e) => both(e, field_of),
        A::FnLifetimeMismatch(e) | A::FnQualifierMismatch(e) => both(e, signature),
        A::MismatchedPrimitive(e) => both(e, |p| format!("{p:?}")),
        A::TLDataDiscriminant(e) => both(e, |d| format!("{d:?}")),
        A::ReprAttr(e) => both(e, |r| format!("{r:?}")),
        other => (cut(&format!("{other:?}")), "another".to_owned()),
    }
}

fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    if line.chars().count() <= PIECE {
        line.to_owned()
    } else {
        line.chars().take(PIECE).chain(['…']).collect()
    }
}
