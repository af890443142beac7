//! What was asked for, and whether a plugin can be made of it.

use anymc3d_manifest::{Modality, TaskKind};

/// A task to be.
pub(super) struct Wish {
    pub name: String,
    pub views: Vec<String>,
    pub labels: Vec<String>,
    pub kind: TaskKind,
    pub segmentation: bool,
}

/// Orientations of the same scan; every other view has a separate scan.
pub(super) const ORIENTATIONS: [&str; 4] = ["axial", "coronal", "sagittal", "native"];

/// How names of MR sequences begin.
const SEQUENCES: [&str; 11] =
    ["t1", "t2", "pd", "flair", "dwi", "adc", "swi", "stir", "dce", "dixon", "bssfp"];

/// What cannot be the name of a crate or of its library.
const RESERVED: [&str; 48] = [
    "as",
    "break",
    "const",
    "continue",
    "crate",
    "else",
    "enum",
    "extern",
    "false",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
    "async",
    "await",
    "dyn",
    "abstract",
    "become",
    "box",
    "gen",
    "try",
    "std",
    "core",
    "alloc",
    "test",
    "proc_macro",
    "anymc3d_plugin_api",
];

const NAME: &str = "2 to 64 of a-z, 0-9 and _, a letter first";

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && (2..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn twice(list: &[String]) -> Option<&String> {
    list.iter().enumerate().find(|(i, name)| list[..*i].contains(name)).map(|(_, name)| name)
}

impl Wish {
    /// Refuses names that would not build or train, or that are ambiguous; the error names the option.
    pub fn check(&self) -> Result<(), String> {
        let Self { name, views, labels, kind, .. } = self;
        if !is_name(name) {
            return Err(format!("name `{name}`: expected {NAME}"));
        }
        if RESERVED.contains(&name.as_str())
            || ["yield", "macro", "final", "override", "priv", "typeof", "do"].contains(&name.as_str())
        {
            return Err(format!(
                "name `{name}`: is a word of Rust or of its library; take another, for example `{name}_task`"
            ));
        }
        if let Some(view) = views.iter().find(|view| !is_name(view)) {
            return Err(format!("--views: `{view}`: expected {NAME}"));
        }
        if let Some(view) = twice(views) {
            return Err(format!("--views: `{view}` twice; each view has a name of its own"));
        }
        let spoiled = |label: &&String| {
            label.trim() != label.as_str()
                || label.is_empty()
                || label.contains(['"', '\\', '|', '`'])
                || label.contains(char::is_control)
        };
        if let Some(label) = labels.iter().find(spoiled) {
            return Err(format!(
                "--labels: `{label}`: expected text without quotes, backslash, bar or blanks at its ends: it heads a column of the data table"
            ));
        }
        if let Some(label) = twice(labels) {
            return Err(format!("--labels: `{label}` twice; each label has a name of its own"));
        }
        let taken = ["case", "image", "patient", "mask", "split"];
        if let Some(label) =
            labels.iter().find(|l| *kind != TaskKind::Multiclass && taken.contains(&l.as_str()))
        {
            return Err(format!(
                "--labels: `{label}` is a column of the data table already; take another name"
            ));
        }
        match (kind, labels.len()) {
            (TaskKind::Binary, n) if n != 1 => {
                Err(format!("--kind binary has one label, --labels names {n}; take multilabel or multiclass"))
            }
            (TaskKind::Multiclass, n) if n < 2 => {
                Err(format!("--kind multiclass needs two classes or more in --labels, found {n}"))
            }
            _ => Ok(()),
        }
    }

    /// MR where a view is named after a sequence of it.
    pub fn modality(&self) -> Modality {
        let sequence = |view: &String| SEQUENCES.iter().any(|s| view.starts_with(s));
        if self.views.iter().any(sequence) { Modality::MR } else { Modality::CT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, views: &[&str], labels: &[&str], kind: TaskKind) -> Wish {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Wish { name: name.to_owned(), views: owned(views), labels: owned(labels), kind, segmentation: false }
    }

    #[test]
    fn what_no_plugin_can_be_made_of_is_refused_with_its_option() {
        use TaskKind::{Binary, Multiclass, Multilabel};
        for (wish, words) in [
            (wish("Liver", &["axial"], &["a"], Binary), "name `Liver`"),
            (wish("liver-lesion", &["axial"], &["a"], Binary), "name `liver-lesion`"),
            (wish("../up", &["axial"], &["a"], Binary), "name `../up`"),
            (wish("match", &["axial"], &["a"], Binary), "word of Rust"),
            (wish("liver", &["t1", "t1"], &["a"], Binary), "--views: `t1` twice"),
            (wish("liver", &["T1"], &["a"], Binary), "--views: `T1`"),
            (wish("liver", &["axial"], &["a", "a"], Multilabel), "--labels: `a` twice"),
            (wish("liver", &["axial"], &["a", ""], Multilabel), "--labels: ``"),
            (wish("liver", &["axial"], &["mask"], Binary), "column of the data table already"),
            (wish("liver", &["axial"], &["a", "b"], Binary), "--kind binary has one label"),
            (wish("liver", &["axial"], &["a"], Multiclass), "two classes"),
        ] {
            let refusal = wish.check().unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
        assert_eq!(wish("liver", &["axial"], &["a"], Binary).check(), Ok(()));
    }

    #[test]
    fn sequences_are_of_magnetic_resonance_and_other_views_of_ct() {
        let of = |views: &[&str]| wish("liver", views, &["a"], TaskKind::Binary).modality();
        assert_eq!(of(&["t1_gd", "flair"]), Modality::MR);
        assert_eq!(of(&["arterial", "portal"]), Modality::CT);
        assert_eq!(of(&["coronal"]), Modality::CT);
    }
}
