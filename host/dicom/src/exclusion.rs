//! Instances that are no part of a volume, by name: what they are, and why they are left out.

use crate::headers::InstanceHeader;

/// What an instance is, where it is no slice of a volume. The list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exclusion {
    Localizer,
    DoseReport,
    SecondaryCapture,
    StructuredReport,
    Segmentation,
    ParametricMap,
    RealWorldValueMap,
    RawData,
    PresentationState,
    KeyObjectSelection,
    EncapsulatedDocument,
    Radiotherapy,
    Waveform,
    Registration,
    Colour,
    ProjectionImage,
    Mosaic,
    OwnResult,
    NotCrossSectional,
    NoPixelData,
}

impl Exclusion {
    /// Every kind with its name and the reason.
    pub const ALL: [(Self, &'static str, &'static str); 20] = [
        (Self::Localizer, "localizer", "plans other series"),
        (Self::DoseReport, "dose report", "a table as a picture or report"),
        (Self::SecondaryCapture, "secondary capture", "a picture of a screen, not measured values"),
        (Self::StructuredReport, "structured report", "text"),
        (Self::Segmentation, "segmentation", "marks another series"),
        (Self::ParametricMap, "parametric map", "computed from another series"),
        (Self::RealWorldValueMap, "real world value map", "belongs to another series"),
        (Self::RawData, "raw data", "not an image"),
        (Self::PresentationState, "presentation state", "says how to show another series"),
        (Self::KeyObjectSelection, "key object selection", "points at another series"),
        (Self::EncapsulatedDocument, "encapsulated document", "a document"),
        (Self::Radiotherapy, "radiotherapy object", "belongs to another series"),
        (Self::Waveform, "waveform", "not an image"),
        (Self::Registration, "registration", "maps other series"),
        (Self::Colour, "colour capture", "a colour picture, not measured values"),
        (Self::ProjectionImage, "projection", "a projection through a volume (MIP), not slices"),
        (
            Self::Mosaic,
            "mosaic",
            "tiles of many slices in one picture, whose positions only the vendor knows",
        ),
        (Self::OwnResult, "own result", "written by this program"),
        (Self::NotCrossSectional, "not cross-sectional", "a projection, photograph or ultrasound"),
        (Self::NoPixelData, "no pixel data", "not an image"),
    ];

    /// What it is.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Why it is left out.
    pub fn reason(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        // The table lists every kind: a test counts.
        Self::ALL.iter().find(|(kind, ..)| *kind == self).unwrap_or(&Self::ALL[19])
    }
}

/// Manufacturer that this program writes into its own objects.
pub const OWN_MANUFACTURER: &str = "AnyMC3D";

/// Why an instance is no slice of a volume; `None` for slices.
pub(crate) fn exclusion_of(header: &InstanceHeader) -> Option<Exclusion> {
    if header.manufacturer.as_deref() == Some(OWN_MANUFACTURER) {
        return Some(Exclusion::OwnResult);
    }
    if let Some(kind) = by_class(&header.sop_class) {
        return Some(kind);
    }
    let Some(pixels) = &header.pixels else { return Some(by_modality(&header.modality)) };
    if pixels.samples != 1 || pixels.photometric.starts_with("PALETTE") {
        return Some(Exclusion::Colour);
    }
    let has_type = |word: &str| header.image_type.iter().any(|t| t.eq_ignore_ascii_case(word));
    let mentions = |word: &str| header.image_type.iter().any(|t| t.to_ascii_uppercase().contains(word));
    if has_type("LOCALIZER") || has_type("SCOUT") {
        return Some(Exclusion::Localizer);
    }
    if mentions("DOSE_INFO") || mentions("DOSE INFO") || described(header, &["dose report", "dose info"]) {
        return Some(Exclusion::DoseReport);
    }
    if mentions("SCREEN SAVE") || mentions("SCREENSAVE") {
        return Some(Exclusion::SecondaryCapture);
    }
    if mentions("PROJECTION IMAGE") || mentions("MIP") {
        return Some(Exclusion::ProjectionImage);
    }
    if has_type("MOSAIC") {
        return Some(Exclusion::Mosaic);
    }
    if described(
        header,
        &["localizer", "localiser", "scout", "topogram", "surview", "scanogram", "3-plane", "3 plane"],
    ) {
        return Some(Exclusion::Localizer);
    }
    if !matches!(header.modality.as_str(), "CT" | "MR" | "PT" | "NM" | "") {
        return Some(by_modality(&header.modality));
    }
    None
}

fn described(header: &InstanceHeader, words: &[&str]) -> bool {
    let text = header.series_description.as_deref().unwrap_or_default().to_lowercase();
    words.iter().any(|w| text.contains(w))
}

fn by_class(uid: &str) -> Option<Exclusion> {
    let class = uid.strip_prefix("1.2.840.10008.5.1.4.1.1.")?;
    let starts = |prefix: &str| {
        class == prefix || class.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    };
    Some(match class {
        "66.4" | "66.7" | "66.5" => Exclusion::Segmentation,
        "66.1" | "66.2" | "66.3" => Exclusion::Registration,
        "67" => Exclusion::RealWorldValueMap,
        "66" => Exclusion::RawData,
        "30" => Exclusion::ParametricMap,
        "88.67" | "88.76" => Exclusion::DoseReport,
        "88.59" => Exclusion::KeyObjectSelection,
        _ if starts("7") => Exclusion::SecondaryCapture,
        _ if starts("88") => Exclusion::StructuredReport,
        _ if starts("11") => Exclusion::PresentationState,
        _ if starts("104") => Exclusion::EncapsulatedDocument,
        _ if starts("481") => Exclusion::Radiotherapy,
        _ if starts("9") => Exclusion::Waveform,
        _ if starts("1") || starts("3") || starts("6") || starts("12") || starts("77") => {
            Exclusion::NotCrossSectional
        }
        _ => return None,
    })
}

fn by_modality(modality: &str) -> Exclusion {
    match modality {
        "SR" => Exclusion::StructuredReport,
        "SEG" => Exclusion::Segmentation,
        "PR" => Exclusion::PresentationState,
        "KO" => Exclusion::KeyObjectSelection,
        "DOC" => Exclusion::EncapsulatedDocument,
        "RTPLAN" | "RTSTRUCT" | "RTDOSE" | "RTIMAGE" => Exclusion::Radiotherapy,
        "ECG" | "HD" => Exclusion::Waveform,
        "REG" => Exclusion::Registration,
        "CT" | "MR" | "PT" | "NM" | "" => Exclusion::NoPixelData,
        _ => Exclusion::NotCrossSectional,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_exclusion_has_its_own_row() {
        for (i, (kind, name, _)) in Exclusion::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i);
            assert_eq!(kind.name(), *name);
        }
    }
}
