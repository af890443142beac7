//! The files of a new plugin, from its templates.

use super::check::{ORIENTATIONS, Wish};
use super::{Dependency, vendored};
use anymc3d_host::plugin::find::library_name;
use anymc3d_manifest::{Modality, TaskKind};
use anymc3d_plugin_api::{BackboneInfo, Lora};

/// The compiler that plugin-api needs.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// The width of the backbone that ships.
const WIDTH: usize = 384;

/// Path in the crate, and text.
pub(super) fn files(wish: &Wish, modality: Modality, dependency: &Dependency) -> Vec<(String, String)> {
    let facts = Facts::new(wish, modality, dependency);
    let file = |path: &str, template: &str| (path.to_owned(), aligned(&facts.fill(template)));
    vec![
        file("Cargo.toml", include_str!("templates/Cargo.toml.in")),
        file("plugin.toml", include_str!("templates/plugin.toml.in")),
        file("src/lib.rs", include_str!("templates/lib.rs.in")),
        file("src/tests.rs", include_str!("templates/tests.rs.in")),
        file("README.md", include_str!("templates/README.md.in")),
        file(".github/workflows/ci.yml", include_str!("templates/ci.yml.in")),
        ("rustfmt.toml".to_owned(), include_str!("../../../../../rustfmt.toml").to_owned()),
        file(".gitignore", include_str!("templates/gitignore.in")),
    ]
}

/// What stands in the places `{{so}}` of the templates.
struct Facts(Vec<(&'static str, String)>);

impl Facts {
    fn new(wish: &Wish, modality: Modality, dependency: &Dependency) -> Self {
        let Wish { name, views, labels, kind, segmentation } = wish;
        let multiclass = *kind == TaskKind::Multiclass;
        let is_vendored = matches!(dependency, Dependency::Vendored);
        let (dependency, dev_dependency) = specification(dependency);
        let counts = counts(wish);
        let quoted: Vec<String> = labels.iter().map(|l| format!("\"{l}\"")).collect();
        let own_scans = views.iter().any(|v| !ORIENTATIONS.contains(&v.as_str()));
        let images = match own_scans {
            true => views.iter().map(|v| format!("`image.{v}`")).collect::<Vec<_>>().join(", "),
            false => "`image`".to_owned(),
        };
        let label_columns = match multiclass {
            true => "one column with the class (`class`)".to_owned(),
            false => labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
        };
        let masks = if *segmentation { ", `mask`" } else { "" };
        let head = if *segmentation { "PatchPooling" } else { "AttentionPooling" };
        let text = |s: &str| s.to_owned();
        let modality_name = if modality == Modality::Any { "any modality" } else { name_of(modality) };
        Self(vec![
            ("name", name.clone()),
            ("type", type_name(name)),
            ("summary", summary(labels, *kind)),
            ("rust", text(RUST)),
            ("dependency", dependency),
            ("dev_dependency", dev_dependency),
            ("library", library_name(name)),
            ("kind", text(kind.name())),
            ("labels", quoted.join(", ")),
            ("labels_note", text(if multiclass { ": the classes of one column" } else { "" })),
            ("loss", text(if multiclass { "cross_entropy" } else { "bce" })),
            (
                "losses",
                text(if multiclass { "the loss of multiclass tasks" } else { "bce | focal (gamma, alpha)" }),
            ),
            ("views", views.iter().map(|v| view(v, modality, views.len() > 1 && own_scans)).collect()),
            ("head", text(head)),
            ("segmentation", text(if *segmentation { SEGMENTATION } else { "" })),
            ("adapter_count", counts.0.to_string()),
            ("head_count", counts.1.to_string()),
            ("segmentation_count", counts.2.to_string()),
            ("outputs", labels.len().to_string()),
            ("view_count", views.len().to_string()),
            (
                "input",
                format!("{modality_name}; views {}, 24 slices of 168 x 168 pixels each", views.join(", ")),
            ),
            (
                "output",
                match kind {
                    TaskKind::Binary => format!("probability of {}", spoken(&labels[0])),
                    TaskKind::Multiclass => format!("one class of {}", labels.join(", ")),
                    TaskKind::Multilabel => format!("a probability each of {}", labels.join(", ")),
                    TaskKind::Ordinal | TaskKind::Regression => {
                        format!("a value each of {}", labels.join(", "))
                    }
                },
            ),
            (
                "supervision",
                match segmentation {
                    true => format!("`TokenDecoder`: {} parameters, masks in training", counts.2),
                    false => text("none"),
                },
            ),
            (
                "columns",
                format!(
                    "`case`, {images}, {label_columns}{masks}; `patient` and `split` where there are any"
                ),
            ),
            ("vendored", text(if is_vendored { VENDORED } else { "" })),
        ])
    }

    fn fill(&self, template: &str) -> String {
        self.0
            .iter()
            .fold(template.to_owned(), |text, (place, with)| text.replace(&format!("{{{{{place}}}}}"), with))
    }
}

const SEGMENTATION: &str = "
    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        // Where the mask is: teaches the adapter through the patch tokens, and the head where to look.
        Decoder::Token.build(build)
    }
";

const VENDORED: &str = "

`vendor/anymc3d-plugin-api` is the host's own plugin-api (Apache-2.0, its LICENSE is there), so that this crate builds by
itself. A newer host runs the library as it is; to use what a newer plugin-api brings, replace the folder.";

/// What Cargo.toml says of plugin-api, for the library and for its tests.
fn specification(dependency: &Dependency) -> (String, String) {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let source = match dependency {
        Dependency::Vendored => format!("path = {}", quoted(vendored::FOLDER)),
        Dependency::Folder(folder) => format!("path = {}", quoted(&folder.display().to_string())),
        Dependency::Version(version) => format!("version = {}", quoted(version)),
    };
    (format!("{{ {source} }}"), format!("{{ {source}, features = [\"testkit\"] }}"))
}

/// `liver_lesion` to `LiverLesion`.
fn type_name(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('_').map(word).collect()
}

/// As plugin.toml has it.
fn name_of(modality: Modality) -> &'static str {
    match modality {
        Modality::CT => "CT",
        Modality::MR => "MR",
        Modality::PT => "PT",
        Modality::Any => "any",
    }
}

/// As it is said in a sentence.
fn spoken(label: &str) -> String {
    label.replace('_', " ")
}

/// A question that the labels answer.
fn summary(labels: &[String], kind: TaskKind) -> String {
    let all: Vec<String> = labels.iter().map(|l| spoken(l)).collect();
    let (last, before) = all.split_last().map(|(last, before)| (last.as_str(), before)).unwrap_or_default();
    let text = match (kind, before.is_empty()) {
        (TaskKind::Multiclass, _) => format!("which is it, {} or {last}?", before.join(", ")),
        (_, true) => format!("{last}, yes or no?"),
        (_, false) => format!("{} and {last}, yes or no for each?", before.join(", ")),
    };
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// A view's part of plugin.toml.
fn view(name: &str, modality: Modality, may_be_missing: bool) -> String {
    let orientation = ORIENTATIONS.contains(&name);
    let intensity = match modality {
        Modality::MR => "{ kind = \"percentile\", low = 0.5, high = 99.5, nonzero = true }",
        // Most of a PET is low: the highest uptake is what is looked for.
        Modality::PT => {
            "{ kind = \"percentile\", low = 0.5, high = 99.9 } @# or a window in the scan's unit, SUV: [0, 10]"
        }
        Modality::Any => "{ kind = \"percentile\", low = 0.5, high = 99.5 } @# fits scans of any unit",
        Modality::CT => {
            "{ kind = \"window\", windows = [[-160, 240]] } @# HU; lungs: [-1000, 400]; three windows give three channels"
        }
    };
    let required = match may_be_missing {
        true => "required = false @# a case may come without this one",
        false => "required = true @# false: a case may come without this one",
    };
    let places = [
        ("view", name.to_owned()),
        (
            "view_note",
            if orientation {
                String::new()
            } else {
                " @# image.NAME in the data table, --view NAME=FILE".replace("NAME", name)
            },
        ),
        ("modality", name_of(modality).to_owned()),
        ("axis", if orientation { name } else { "axial" }.to_owned()),
        ("intensity", intensity.to_owned()),
        ("required", required.to_owned()),
    ];
    Facts(places.into()).fill(include_str!("templates/view.in"))
}

/// Numbers of parameters of adapter, head and decoder on the backbone that ships; the new crate's test says the same.
fn counts(wish: &Wish) -> (usize, usize, usize) {
    let (views, outputs, d) = (wish.views.len(), wish.labels.len(), WIDTH);
    let backbone = BackboneInfo::new("dinov2", d, 12, 6, 14);
    let adapter = views * Lora::paper(&backbone).from_block(6).parameters(&backbone);
    let queries = if views > 1 { views + 1 } else { 1 };
    let pooling = queries * d + outputs * (d + 1);
    match wish.segmentation {
        false => (adapter, pooling, 0),
        true => (adapter, pooling + views * outputs * (d + 1), d + 1),
    }
}

/// Comments behind `@#`, brought to one column.
fn aligned(text: &str) -> String {
    let line = |line: &str| match line.split_once(" @# ") {
        Some((code, comment)) => format!("{code:<31} # {comment}\n"),
        None => format!("{line}\n"),
    };
    text.trim_end().lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anymc3d_manifest::Manifest;

    fn files_of(
        views: &[&str],
        labels: &[&str],
        kind: TaskKind,
        segmentation: bool,
    ) -> Vec<(String, String)> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let name = "liver_lesion".to_owned();
        let wish = Wish { name, views: owned(views), labels: owned(labels), kind, segmentation };
        files(&wish, wish.modality(), &Dependency::Vendored)
    }

    #[test]
    fn every_kind_of_task_has_a_manifest_that_compiles_and_no_place_left_open() {
        for (views, labels, kind) in [
            (&["axial"][..], &["liver_lesion"][..], TaskKind::Binary),
            (&["axial", "coronal", "sagittal"], &["spleen", "liver"], TaskKind::Multilabel),
            (&["t1", "t2", "flair"], &["none", "stroke", "tumour"], TaskKind::Multiclass),
        ] {
            for segmentation in [false, true] {
                let files = files_of(views, labels, kind, segmentation);
                for (name, text) in &files {
                    let open = text.replace("${{", "").contains("{{") || text.contains("@#");
                    assert!(!open, "{name}:\n{text}");
                }
                let (_, text) = files.iter().find(|(name, _)| name == "plugin.toml").expect("a manifest");
                let manifest = Manifest::parse_strict(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
                let found: Vec<&str> = manifest.views.iter().map(|v| v.name.as_str()).collect();
                assert_eq!((found.as_slice(), manifest.task.labels.len()), (views, labels.len()));
                // Sequences may be missing, orientations are of one scan.
                assert!(manifest.views.iter().all(|v| v.required != views.contains(&"t1")));
                let (_, text) = files.iter().find(|(name, _)| name == "Cargo.toml").expect("a manifest");
                text.parse::<toml::Table>().unwrap_or_else(|e| panic!("{e}\n{text}"));
            }
        }
    }

    #[test]
    fn every_modality_has_a_manifest_that_says_it() {
        for modality in [Modality::CT, Modality::MR, Modality::PT, Modality::Any] {
            let (views, labels) = (vec!["axial".to_owned()], vec!["lesion".to_owned()]);
            let wish =
                Wish { name: "demo".into(), views, labels, kind: TaskKind::Binary, segmentation: false };
            let files = files(&wish, modality, &Dependency::Vendored);
            let (_, text) = files.iter().find(|(name, _)| name == "plugin.toml").expect("a manifest");
            let manifest = Manifest::parse_strict(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(manifest.views[0].modality, modality);
        }
    }
}
