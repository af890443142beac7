//! The keys that schema 1 has, table by table: an unknown key is told with the nearest of them.

/// Dotted path of a table, without the numbers of its elements, and the keys in it.
pub(crate) const KEYS: [(&str, &[&str]); 8] = [
    ("", &["schema", "plugin", "task", "backbone", "view", "settings"]),
    ("plugin", &["name", "version", "summary", "authors", "license", "intended_use"]),
    (
        "task",
        &[
            "kind",
            "labels",
            "range",
            "loss",
            "threshold",
            "sided_labels",
            "permutation_invariant",
            "smallest_mm",
        ],
    ),
    ("task.loss", &["kind", "gamma", "alpha", "class_weights"]),
    ("backbone", &["families", "min_embed_dim"]),
    (
        "view",
        &[
            "name",
            "modality",
            "axis",
            "slices",
            "slice_spacing_mm",
            "size",
            "fit",
            "spacing_mm",
            "region",
            "crop",
            "margin_mm",
            "size_mm",
            "mask_features",
            "channels",
            "adjacent_mm",
            "through_plane",
            "background",
            "tokens",
            "merge",
            "intensity",
            "series",
            "required",
        ],
    ),
    ("view.intensity", &["kind", "windows", "low", "high", "nonzero"]),
    ("view.series", &["description", "sequence", "contrast", "body_part", "orientation", "min_slices"]),
];

/// The known key that an unknown one (`view[0].slise`) may have been meant to be.
pub(crate) fn nearest_to(key: &str) -> Option<&'static str> {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut path = String::new();
    for (i, part) in table.split('[').enumerate() {
        path += if i == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) };
    }
    let (_, keys) = KEYS.iter().find(|(known, _)| *known == path)?;
    crate::place::nearest(name, keys.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;
    use std::collections::{BTreeMap, BTreeSet};

    const EVERYTHING: &str = r#"
schema = 1
[plugin]
name = "demo"
version = "0.1.0"
summary = "-"
license = "-"
intended_use = "-"
[task]
kind = "regression"
labels = ["a"]
range = [0, 1]
loss = { kind = "bce" }
smallest_mm = 3.0
[backbone]
families = ["any"]
[[view]]
name = "one"
modality = "MR"
axis = "axial"
slices = 4
size = [56, 56]
fit = "spacing"
spacing_mm = 1.0
crop = [[0, 1], [0, 1], [0, 1]]
region = "mask"
margin_mm = 5.0
mask_features = ["scalars"]
channels = "adjacent"
adjacent_mm = 3.0
through_plane = "linear"
background = "drop"
tokens = "class"
merge = 8
intensity = { kind = "percentile", low = 0.5, high = 99.5 }
series = { description = "x", sequence = "T1", contrast = true, body_part = "x", orientation = "axial", min_slices = 3 }
[[view]]
name = "two"
modality = "MR"
axis = "axial"
slice_spacing_mm = 4.0
size = [56, 56]
region = "point"
size_mm = 40.0
intensity = { kind = "window", windows = [[0, 1]] }
"#;

    #[test]
    fn the_list_has_every_key_of_the_types_and_no_other() {
        fn collect(value: &toml::Value, path: &str, all: &mut BTreeMap<String, BTreeSet<String>>) {
            match value {
                toml::Value::Table(table) => {
                    for (key, value) in table {
                        all.entry(path.to_owned()).or_default().insert(key.clone());
                        let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                        collect(value, &here, all);
                    }
                }
                toml::Value::Array(array) => array.iter().for_each(|value| collect(value, path, all)),
                _ => {}
            }
        }
        let manifest = Manifest::parse_strict(EVERYTHING).unwrap();
        let mut found = BTreeMap::new();
        // Keys of its own: whatever a plugin's code reads.
        found.entry(String::new()).or_insert_with(BTreeSet::new).insert("settings".to_owned());
        collect(&toml::Value::try_from(&manifest).unwrap(), "", &mut found);
        let listed =
            KEYS.map(|(table, keys)| (table.to_owned(), keys.iter().map(|k| (*k).to_owned()).collect()));
        assert_eq!(found, BTreeMap::from(listed));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_known_key() {
        let wrong = EVERYTHING.replace("slices = 4", "slises = 4");
        // Without `slices` the value check would come first.
        let wrong = wrong.replacen("size = [56, 56]", "slices = 4\nsize = [56, 56]", 1);
        let message = Manifest::parse_strict(&wrong).unwrap_err().to_string();
        assert!(
            message.starts_with(
                "plugin.toml: line 21, column 1: unknown key `view[0].slises`; did you mean `slices`?"
            ),
            "{message}"
        );
        let message = Manifest::parse_strict(
            &EVERYTHING.replace("kind = \"regression\"", "kind = \"regression\"\ncolour = 1"),
        );
        let message = message.unwrap_err().to_string();
        assert!(message.contains("unknown key `task.colour`; the keys of schema 1"), "{message}");
    }

    #[test]
    fn a_wrong_type_a_wrong_value_and_a_missing_key_are_told_with_line_column_and_key() {
        let message = |from: &str, to: &str| {
            Manifest::parse_strict(&EVERYTHING.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let wrong_type = message("slices = 4", "slices = \"four\"");
        assert!(
            wrong_type.starts_with("plugin.toml: line 21, column 10: `view[0].slices`: invalid type"),
            "{wrong_type}"
        );
        let wrong_value = message("smallest_mm = 3.0", "smallest_mm = -3.0");
        assert!(
            wrong_value.starts_with("plugin.toml: line 14, column 1: `task.smallest_mm`: -3; expected"),
            "{wrong_value}"
        );
        let missing = message("families = [\"any\"]\n", "");
        assert!(
            missing.contains("line 15, column 1: ") && missing.contains("missing field `families`"),
            "{missing}"
        );
        let broken = message("kind = \"regression\"", "kind = \"regression");
        assert!(broken.starts_with("plugin.toml: line 10, column "), "{broken}");
    }
}
