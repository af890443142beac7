//! A new version of a plugin with the weights of the one before, where nothing that they depend on changed.

use super::weights::{TrainedFor, WeightsInfo};
use anymc3d_manifest::{Manifest, View};
use serde_json::Value;

/// What the weights say of themselves as a version's own: the manifest's version, everything else as it was.
///
/// That library and weights have the same parameters is checked where the task is opened. `trained_for`: what the task was
/// when they were trained, for weights that do not say it.
///
/// # Errors
/// One line: the weights do not say what they were trained for, or the first thing that changed since.
pub fn adopted(
    info: &WeightsInfo,
    manifest: &Manifest,
    trained_for: Option<TrainedFor>,
) -> Result<WeightsInfo, AdoptError> {
    let then = info.trained_for.clone().or(trained_for).ok_or(AdoptError::Unrecorded)?;
    let now = TrainedFor::of(manifest);
    if let Some((key, then, now)) = first_difference(&then, &now) {
        return Err(AdoptError::Changed { key, then, now });
    }
    let mut info = info.clone();
    info.plugin_version = manifest.plugin.version.to_string();
    info.trained_for = Some(now);
    Ok(info)
}

/// Why a version cannot have the weights of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// The weights were written by an older host.
    #[error("the weights do not say for which labels and preprocessing they were trained")]
    Unrecorded,
    /// Parameters mean something else now.
    #[error("`{key}` was {then} when they were trained, now it is {now}: the weights must be trained again")]
    Changed {
        /// Dotted key of plugin.toml.
        key: String,
        /// When they were trained.
        then: String,
        /// In the library.
        now: String,
    },
}

/// The first key in which two tasks differ, with both values. Which series fills a view and whether it may be missing
/// change no pixel.
fn first_difference(then: &TrainedFor, now: &TrainedFor) -> Option<(String, String, String)> {
    fn walk(path: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
        match (a, b) {
            (Value::Object(x), Value::Object(y)) => {
                let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
                keys.into_iter().find_map(|key| {
                    let of =
                        |side: &serde_json::Map<String, Value>| side.get(key).cloned().unwrap_or_default();
                    walk(&format!("{path}.{key}"), &of(x), &of(y))
                })
            }
            (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
                (0..x.len()).find_map(|i| walk(&format!("{path}[{i}]"), &x[i], &y[i]))
            }
            _ if a == b => None,
            _ => Some((path.to_owned(), a.to_string(), b.to_string())),
        }
    }
    let bare = |view: &View| View { series: None, required: true, ..view.clone() };
    let views = |of: &TrainedFor| serde_json::json!(of.views.iter().map(bare).collect::<Vec<_>>());
    walk("task.kind", &serde_json::json!(then.kind), &serde_json::json!(now.kind))
        .or_else(|| walk("task.labels", &serde_json::json!(then.labels), &serde_json::json!(now.labels)))
        .or_else(|| walk("view", &views(then), &views(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../../../plugins/lung_nodule/plugin.toml");

    fn manifest(from: &str, to: &str) -> Manifest {
        let text = MANIFEST.replace("version = \"0.1.0\"", "version = \"0.2.0\"");
        assert!(text.contains(from));
        Manifest::parse_strict(&text.replace(from, to)).unwrap().clone()
    }

    fn weights(trained_for: Option<TrainedFor>) -> WeightsInfo {
        WeightsInfo { plugin_version: "0.1.0".into(), trained_for, ..WeightsInfo::default() }
    }

    #[test]
    fn a_version_with_the_same_task_has_the_weights_and_one_with_another_is_refused_by_the_key() {
        let then = TrainedFor::of(&Manifest::parse_strict(MANIFEST).unwrap());
        let same = manifest("summary = \"", "summary = \"Better: ");
        let info = adopted(&weights(Some(then.clone())), &same, None).unwrap();
        assert_eq!((info.plugin_version.as_str(), info.trained_for.as_ref()), ("0.2.0", Some(&then)));
        let refused = |from: &str, to: &str| {
            adopted(&weights(Some(then.clone())), &manifest(from, to), None).unwrap_err().to_string()
        };
        assert!(refused("\"nodule\"", "\"mass\"").starts_with("`task.labels[0]` was \"nodule\" when"));
        assert!(
            refused("slices = 40", "slices = 32")
                .starts_with("`view[0].slices` was 40 when they were trained, now it is 32")
        );
        assert!(refused("region = \"lungs\"", "region = \"body\"").contains("`view[0].region`"));
        assert_eq!(adopted(&weights(None), &same, None), Err(AdoptError::Unrecorded));
        assert!(adopted(&weights(None), &same, Some(then)).is_ok());
    }
}
