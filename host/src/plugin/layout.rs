//! Do host and plugin agree on the layout of everything that crosses? Older ⊆ newer, in either direction.

use anymc3d_plugin_api::abi::objects::PluginModule_Ref;
use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::LibHeader;
use abi_stable::type_layout::TypeLayout;

/// `Ok` when one of the two layouts is a prefix of the other; else at most four lines that say where they differ.
///
/// Each check has fresh globals: with the process-wide ones the answer would depend on what was loaded before.
pub fn check(header: &LibHeader) -> Result<(), Vec<String>> {
    let host = <PluginModule_Ref as StableAbi>::LAYOUT;
    let Some(plugin) = header.layout() else {
        return Err(vec!["  the plugin carries no layout; it must be built with `export_plugin!`".to_owned()]);
    };
    let contained = |interface: &'static TypeLayout, implementation: &'static TypeLayout| {
        check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new())
    };
    match contained(host, plugin) {
        Ok(()) => Ok(()),
        Err(newer) => contained(plugin, host).map_err(|_| describe(&newer)),
    }
}

/// abi_stable's own report has up to thousands of lines; the place and the two types are what helps.
fn describe(errors: &AbiInstabilityErrors) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for error in errors.errors.iter().filter(|e| !e.errs.is_empty()) {
        let place: Vec<String> = error.stack_trace.iter().map(|f| first_words(&f.expected.to_string())).collect();
        let place = if place.is_empty() { "the root module".to_owned() } else { place.join(" > ") };
        let mut kinds: Vec<String> = error.errs.iter().map(|e| first_words(&format!("{e:?}"))).collect();
        kinds.dedup();
        let types = error.stack_trace.last().map(|f| {
            format!(": host {}, plugin {}", type_of(&f.expected.to_string()), type_of(&f.found.to_string()))
        });
        lines.push(format!("  at {place}{} ({})", types.unwrap_or_default(), kinds.join(", ")));
        if lines.len() == 3 {
            break;
        }
    }
    lines.push("  rebuild the plugin with this host's plugin-api, or upgrade the host".to_owned());
    lines
}

/// The field's name of abi_stable's `field_name:Type`.
fn first_words(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    line.split([':', '(', ' ', '{']).find(|w| !w.is_empty()).unwrap_or(line).to_owned()
}

/// The type of abi_stable's `field_name:Type`.
fn type_of(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let found = line.split_once(':').map_or(line, |(_, t)| t).trim();
    found.chars().take(60).collect()
}
