//! Labels that a table calls otherwise than the plugin does.

use super::{Problem, Table, TableError};
use anymc3d_manifest::Manifest;
use std::collections::BTreeMap;
use std::path::Path;

/// What a table calls a task's labels: of a binary or multi-label task its columns, of a multi-class task the classes in its
/// column `class`. Labels that are not named are called as the plugin calls them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelColumns(BTreeMap<String, String>);

impl LabelColumns {
    /// Of pairs of label and column.
    ///
    /// # Errors
    /// One line: a label that the task does not have, or two labels of one column.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        manifest: &Manifest,
    ) -> Result<Self, String> {
        let mut columns = BTreeMap::new();
        for (label, column) in pairs {
            if !manifest.task.labels.iter().any(|l| l == label) {
                let (name, labels) = (&manifest.plugin.name, manifest.task.labels.join(", "));
                return Err(format!("`{label}` is no label of {name}; expected one of {labels}"));
            }
            columns.insert(label.to_owned(), column.to_owned());
        }
        let columns = Self(columns);
        let names = columns.renamed(manifest).task.labels;
        match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            Some((_, name)) => {
                Err(format!("two labels would be read from `{name}`; give each a column of its own"))
            }
            None => Ok(columns),
        }
    }

    fn renamed(&self, manifest: &Manifest) -> Manifest {
        let mut renamed = manifest.clone();
        for label in &mut renamed.task.labels {
            if let Some(column) = self.0.get(label) {
                label.clone_from(column);
            }
        }
        renamed
    }

    /// [`Table::open`] of a table that calls the labels so.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, path: impl AsRef<Path>, manifest: &Manifest) -> Result<Table, TableError> {
        Table::open(path, &self.renamed(manifest)).map(|table| called_as(table, manifest))
    }

    /// [`Table::read_all`] of a table that calls the labels so.
    pub fn read_all(&self, path: impl AsRef<Path>, manifest: &Manifest) -> (Table, Vec<Problem>) {
        let (table, problems) = Table::read_all(path, &self.renamed(manifest));
        (called_as(table, manifest), problems)
    }
}

fn called_as(table: Table, manifest: &Manifest) -> Table {
    Table { labels: manifest.task.labels.clone(), ..table }
}
