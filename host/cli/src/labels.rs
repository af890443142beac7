//! `--label`: labels that a table calls otherwise than the plugin does, and what to do where a table has others.

use super::doctor::guess;
use super::outcome::CommandError;
use anymc3d_host::data::table::LabelColumns;
use anymc3d_manifest::{Manifest, TaskKind};
use clap::Args;
use std::path::Path;

/// `--label`
#[derive(Debug, Args)]
pub(super) struct LabelOption {
    /// Column of the table that has a label of the plugin, where it has another name (of classes: the name in the column
    /// `class`)
    #[arg(long = "label", value_name = "LABEL=COLUMN", value_parser = pair)]
    labels: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((label, column)) if !label.is_empty() && !column.is_empty() => {
            Ok((label.to_owned(), column.to_owned()))
        }
        _ => Err("expected LABEL=COLUMN, for example nodule=blob".to_owned()),
    }
}

impl LabelOption {
    /// What the table calls the plugin's labels.
    pub fn columns(&self, manifest: &Manifest) -> Result<LabelColumns, CommandError> {
        let pairs = self.labels.iter().map(|(label, column)| (label.as_str(), column.as_str()));
        LabelColumns::new(pairs, manifest).map_err(|e| CommandError::usage(format!("--label: {e}")))
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A message about a table that lacks a plugin's labels, with what can be done about the labels that it has.
pub(super) fn with_hint(message: impl ToString, data: &Path, manifest: &Manifest) -> String {
    let message = message.to_string();
    let missing = |label: &&String| message.contains(&format!("no column `{label}` for the label"));
    let Some(label) = manifest.task.labels.iter().find(missing) else { return message };
    let Ok(other) = guess(data) else { return message };
    let there: Vec<&String> =
        other.task.labels.iter().filter(|l| !manifest.task.labels.contains(l)).collect();
    let [first, ..] = there.as_slice() else { return message };
    if other.task.kind == TaskKind::Multiclass {
        return message;
    }
    let all = there.iter().map(|l| l.as_str()).collect::<Vec<_>>().join(",");
    format!(
        "{message}; if `{first}` is meant, give --label {label}={first}; for a task of other labels make a plugin: \
         `host plugin new {} --labels {all}`",
        plugin_name(first)
    )
}

/// A name that `host plugin new` takes.
fn plugin_name(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = label.chars().map(plain).collect();
    match name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() > 1 {
        true => name,
        false => format!("task_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_another_label_is_told_with_how_to_use_it() {
        let manifest =
            Manifest::parse(include_str!("../../../plugins/lung_nodule/plugin.toml")).unwrap().manifest;
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("t.csv");
        std::fs::write(&table, "case,image,Blob size\na,a.nii,1\nb,b.nii,0\n").unwrap();
        let message = anymc3d_host::data::table::Table::open(&table, &manifest).unwrap_err().to_string();
        let told = with_hint(&message, &table, &manifest);
        assert!(told.contains("give --label nodule=Blob size"), "{told}");
        assert!(told.ends_with("`host plugin new blob_size --labels Blob size`"), "{told}");
        assert_eq!(with_hint("a scan is damaged", &table, &manifest), "a scan is damaged");
        assert!(pair("nodule").is_err() && pair("=x").is_err());
    }
}
