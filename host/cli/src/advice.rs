//! The library's errors carry facts; here they get the option that helps.

use anymc3d_host::engine::{FindBackboneError, Remedy};
use anymc3d_host::run::inputs::InputError;

/// An error's message and what to do, in options of the command line.
pub(super) fn with_remedy(message: &str, remedy: Option<&Remedy>) -> String {
    match remedy {
        Some(Remedy::FileForEach(views)) => {
            let options: Vec<String> = views.iter().map(|view| format!("--view {view}=FILE")).collect();
            format!("{message}; give {}", options.join(" "))
        }
        _ => message.to_owned(),
    }
}

/// An input's fault, and the option that helps.
pub(super) fn with_option(error: &InputError) -> String {
    match error {
        InputError::Salt { .. } => format!("--out {error}; give --id-salt FILE"),
        InputError::EmptyFolder { left_out, .. } if left_out.contains_key("folder") => {
            format!("{error}; --recursive looks into folders")
        }
        InputError::Random(_) => format!("{error}; give --id-salt FILE"),
        other => other.to_string(),
    }
}

/// A backbone's fault, and the option that helps.
pub(super) fn with_acceptance(error: &FindBackboneError) -> String {
    match error {
        FindBackboneError::Licence(_) => format!("{error}, then give --accept-licence"),
        other => other.to_string(),
    }
}
