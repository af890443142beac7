//! `series = { … }` of a view: which series of a DICOM study fills it.

use crate::{ManifestError, Place};
use serde::{Deserialize, Serialize};

/// What `sequence` may be.
pub const SEQUENCE_NAMES: [&str; 13] =
    ["T1", "T2", "T2*", "FLAIR", "STIR", "PD", "DWI", "ADC", "SWI", "MRA", "PERFUSION", "BOLD", "DIXON"];

/// Rules for a series, besides the view's modality. A rule that is absent fits every series; a series whose header says
/// nothing about a rule fits too, after those that meet it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesRules {
    /// Found anywhere in the series' description or protocol name, without regard to case; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// One of [`SEQUENCE_NAMES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Whether a contrast agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<bool>,
    /// Found anywhere in the body part examined, without regard to case; `|` stands between alternatives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_part: Option<String>,
    /// The plane that the slices were acquired in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Plane>,
    /// At least this many slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_slices: Option<usize>,
}

/// The plane that slices are nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Across the body.
    Axial,
    /// Front and back apart.
    Coronal,
    /// Left and right apart.
    Sagittal,
    /// None of the three.
    Oblique,
}

impl SeriesRules {
    pub(crate) fn check(&self, key: &str) -> Result<(), ManifestError> {
        let refuse = |name: &str, found: String, expected: String| {
            Err(ManifestError::Value {
                place: Place::default(),
                key: format!("{key}.{name}"),
                found,
                expected,
            })
        };
        if let Some(found) = &self.sequence
            && !SEQUENCE_NAMES.iter().any(|name| name.eq_ignore_ascii_case(found))
        {
            let expected = format!("one of {}", SEQUENCE_NAMES.join(", "));
            return refuse("sequence", format!("`{found}`"), expected);
        }
        for (name, text) in [("description", &self.description), ("body_part", &self.body_part)] {
            if text.as_ref().is_some_and(|t| t.trim().is_empty()) {
                return refuse(name, "empty".into(), "text to be found there, or no such key".into());
            }
        }
        match self.min_slices {
            Some(0) => refuse("min_slices", "0".into(), "1 or more".into()),
            _ => Ok(()),
        }
    }

    /// The alternatives of `body_part`.
    pub fn body_parts(&self) -> impl Iterator<Item = &str> {
        self.body_part.iter().flat_map(|text| text.split('|')).map(str::trim).filter(|part| !part.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Manifest, ManifestError, Plane};

    fn with(series: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse_strict(&format!(
            "schema = 1\n[plugin]\nname = \"demo\"\nversion = \"0.1.0\"\nsummary = \"-\"\nlicense = \"-\"\nintended_use = \"-\"\n\
             [task]\nkind = \"binary\"\nlabels = [\"a\"]\n[backbone]\nfamilies = [\"any\"]\n[[view]]\nname = \"axial\"\n\
             modality = \"MR\"\naxis = \"axial\"\nslices = 4\nsize = [56, 56]\n\
             intensity = {{ kind = \"percentile\", low = 0.5, high = 99.5 }}\nseries = {series}\n"
        ))
    }

    #[test]
    fn a_view_says_which_series_it_wants() {
        let text = "{ description = \"ax*brain\", sequence = \"T2*\", contrast = false, body_part = \"HEAD|BRAIN\", \
                    orientation = \"axial\", min_slices = 12 }";
        let manifest = with(text).unwrap();
        let rules = manifest.views[0].series.clone().unwrap();
        assert_eq!(rules.body_parts().collect::<Vec<_>>(), ["HEAD", "BRAIN"]);
        assert_eq!((rules.orientation, rules.min_slices), (Some(Plane::Axial), Some(12)));
        assert_eq!((rules.sequence.as_deref(), rules.contrast), (Some("T2*"), Some(false)));
    }

    #[test]
    fn rules_that_make_no_sense_are_named() {
        for (text, key) in [
            ("{ sequence = \"T3\" }", "view[0].series.sequence"),
            ("{ min_slices = 0 }", "view[0].series.min_slices"),
            ("{ description = \" \" }", "view[0].series.description"),
            ("{ modality = \"CT\" }", "view[0].series.modality"),
        ] {
            let error = with(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
