//! The study file: tasks, backbones and methods, as TOML says them.
//!
//! ```toml
//! [study]
//! baseline = { backbone = "dinov2-small", method = "attention probe" }
//!
//! [[task]]
//! plugin = "lung_nodule"
//! table = "lung_nodule/table.csv"
//! folds = 5
//!
//! [[backbone]]
//! name = "dinov2-small"
//!
//! [[method]]
//! name = "attention probe"
//! kind = "attention_probe"
//! epochs = 20
//! seeds = [1, 2, 3]
//! ```

use super::error::StudyError;
use super::method::MethodEntry;
use super::task_entry::TaskEntry;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a study file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StudyFile {
    #[serde(default)]
    pub study: General,
    #[serde(rename = "task", default)]
    pub tasks: Vec<TaskEntry>,
    #[serde(rename = "backbone", default)]
    pub backbones: Vec<BackboneEntry>,
    #[serde(rename = "method", default)]
    pub methods: Vec<MethodEntry>,
    /// Methods of other programs by name: a predictions file per task, in whose path `{task}` stands for the task's name as a
    /// folder's. Below the folder of the data.
    #[serde(default)]
    pub predictions: BTreeMap<String, PathBuf>,
}

/// `[study]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct General {
    /// The row that every other row of its task is tested against; the first backbone and method where none is named.
    pub baseline: Option<RowName>,
    /// Methods that a benchmark tests every other method against, on the same backbone.
    pub baselines: Vec<String>,
    /// Of folds, and of validation cases that no table names.
    pub seed: u64,
    /// Test cases of each task whose time and memory are measured, one after the other.
    pub timed_scans: usize,
}

impl Default for General {
    fn default() -> Self {
        Self { baseline: None, baselines: Vec::new(), seed: 0, timed_scans: 3 }
    }
}

/// A row of a task's table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowName {
    pub backbone: String,
    pub method: String,
}

/// `[[backbone]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackboneEntry {
    /// In the tables, and where backbones are found unless there is a folder.
    pub name: String,
    /// Below the study file's folder.
    pub folder: Option<PathBuf>,
}

impl StudyFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has a key that is not known, lacks a part, or names something twice.
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let refuse = |reason: String| StudyError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(format!("cannot be read ({e})")))?;
        let file: Self = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            refuse(format!("line {line}: {}", e.message()))
        })?;
        file.check().map_err(refuse)?;
        Ok(file)
    }

    pub fn check(&self) -> Result<(), String> {
        let tasks: Vec<String> = self.tasks.iter().map(TaskEntry::row_name).collect();
        let backbones: Vec<String> = self.backbones.iter().map(|b| b.name.clone()).collect();
        let methods: Vec<String> = self.methods.iter().map(|m| m.name.clone()).collect();
        let outside: Vec<String> = self.predictions.keys().cloned().collect();
        let all: Vec<String> = methods.iter().chain(&outside).cloned().collect();
        let there = [!tasks.is_empty(), !backbones.is_empty(), !methods.is_empty()];
        for ((kind, names), there) in
            [("task", &tasks), ("backbone", &backbones), ("method", &all)].into_iter().zip(there)
        {
            if !there {
                return Err(format!("has no [[{kind}]], expected at least one"));
            }
            let mut seen = BTreeSet::new();
            for name in names {
                if folder_name(name).is_empty() {
                    return Err(format!(
                        "[[{kind}]] is called `{name}`, expected a name with letters or digits"
                    ));
                }
                if !seen.insert(folder_name(name)) {
                    return Err(format!("[[{kind}]] `{name}` is there twice; give each a name of its own"));
                }
            }
        }
        for method in &self.methods {
            method.check().map_err(|reason| format!("[[method]] `{}`: {reason}", method.name))?;
            let unknown = method.tasks.iter().flatten().find(|task| !tasks.contains(task));
            if let Some(task) = unknown {
                let all = tasks.join(", ");
                return Err(format!("[[method]] `{}`: tasks: `{task}`, expected some of {all}", method.name));
            }
        }
        if let Some(name) = self.study.baselines.iter().find(|name| !all.contains(name)) {
            return Err(format!("baselines: method `{name}`, expected some of {}", all.join(", ")));
        }
        for task in &self.tasks {
            if let Some(name) = task.methods.iter().flatten().find(|name| !methods.contains(name)) {
                let (task, all) = (task.row_name(), methods.join(", "));
                return Err(format!("[[task]] `{task}`: methods: `{name}`, expected some of {all}"));
            }
            if let Some(k) = task.folds.filter(|k| !(3..=100).contains(k)) {
                return Err(format!(
                    "[[task]] `{}`: folds = {k}, expected 3 to 100: one is tested, one chooses the epoch, the others train",
                    task.row_name()
                ));
            }
            if task.folds.is_some() && task.test.is_some() {
                return Err(format!(
                    "[[task]] `{}`: has both `folds` and `test`, expected one",
                    task.row_name()
                ));
            }
        }
        if let Some(RowName { backbone, method }) = &self.study.baseline {
            let known = [("backbone", backbone, &backbones), ("method", method, &methods)];
            let with = self.methods.iter().filter(|m| m.kind.has_backbone()).map(|m| &m.name);
            if methods.contains(method) && !with.into_iter().any(|name| name == method) {
                return Err(format!("baseline: method `{method}` has no backbone; name it in `baselines`"));
            }
            if let Some((kind, name, all)) = known.into_iter().find(|(_, name, all)| !all.contains(name)) {
                return Err(format!("baseline: {kind} `{name}`, expected one of {}", all.join(", ")));
            }
        }
        Ok(())
    }

    /// Names of the baseline's backbone and method.
    pub fn baseline(&self) -> (&str, &str) {
        let first = || self.methods.iter().find(|m| m.kind.has_backbone()).unwrap_or(&self.methods[0]);
        match &self.study.baseline {
            Some(row) => (&row.backbone, &row.method),
            None => (&self.backbones[0].name, &first().name),
        }
    }
}

/// A name as a folder's: letters, digits, `-` and `.`; everything else is `_`.
pub(crate) fn folder_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let plain: String = name.chars().map(plain).collect();
    if plain.chars().any(|c| c.is_ascii_alphanumeric()) { plain } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "[[task]]\nplugin = \"lung_nodule\"\ntable = \"t.csv\"\nfolds = 5\n[[backbone]]\nname = \"a\"\n\
        [[backbone]]\nname = \"b\"\n[[method]]\nname = \"probe\"\nkind = \"linear_probe\"\n";

    fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        StudyFile::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_does_not_make_sense_is_refused_with_what_was_found() {
        for (change, says) in [
            (("epochs", ""), ""),
            (("folds = 5", "folds = 2"), "folds = 2, expected 3 to 100"),
            (("folds = 5", "folds = 5\ntest = \"u.csv\""), "both `folds` and `test`"),
            (("folds = 5", "fold = 5"), "line 4: unknown field `fold`"),
            (("name = \"b\"", "name = \"a\""), "[[backbone]] `a` is there twice"),
            (("name = \"b\"", "name = \"--\""), "expected a name with letters"),
            (("linear_probe", "linear"), "unknown variant `linear`"),
            (("[[method]]", "[[methods]]"), "unknown field `methods`"),
            (("kind = ", "rank = 4\nkind = "), "`rank` is of an adapter"),
            (("kind = ", "epochs = 0\nkind = "), "epochs 0: expected 1 or more"),
            (("kind = ", "head_lr = -1.0\nkind = "), "head-lr -1: expected a number above 0"),
            (("kind = ", "seeds = []\nkind = "), "seeds = []"),
            (("kind = ", "tasks = [\"t\"]\nkind = "), "`t`, expected some of lung_nodule"),
            (("folds = 5", "folds = 5\nmethods = [\"x\"]"), "methods: `x`, expected some of probe"),
            (("[[task]]", "study.baselines = [\"x\"]\n[[task]]"), "method `x`, expected some of probe"),
            (("[[task]]", "predictions.probe = \"p.csv\"\n[[task]]"), "`probe` is there twice"),
            (
                ("[[task]]", "study.baseline = { backbone = \"c\", method = \"probe\" }\n[[task]]"),
                "`c`, expected one of a, b",
            ),
        ] {
            if says.is_empty() {
                continue;
            }
            assert!(WHOLE.contains(change.0), "{change:?}");
            let said = refused(&WHOLE.replacen(change.0, change.1, 1));
            assert!(said.contains(says) && said.contains("s.toml"), "{change:?}: {said}");
        }
        assert!(refused("").contains("no [[task]]"));
        let file: StudyFile = toml::from_str(WHOLE).unwrap();
        assert_eq!(file.baseline(), ("a", "probe"));
    }
}
