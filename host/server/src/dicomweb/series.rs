//! What is known of a series before its pixels are read, from an archive's answers or from a header; and whether it is
//! one of our own.

use anymc3d_dicom::{Instance, OWN_MANUFACTURER};

use super::json::{
    Attributes, BODY_PART, MANUFACTURER, MODALITY, PIXEL_MEASURES, PROTOCOL, SERIES_DESCRIPTION,
    SERIES_INSTANCES, SERIES_UID, SHARED_GROUPS, SLICE_THICKNESS, SOP_CLASS_UID,
};

/// Every series that this program writes is described so.
pub(crate) const OWN_DESCRIPTION: &str = "Research only - ";

/// Storage classes of objects that are made from images and are none that a plugin reads: ours are among them.
const DERIVED_CLASSES: [&str; 6] = [
    // Reports, secondary captures, encapsulated documents, segmentations, parametric maps, presentation states.
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.30",
    "1.2.840.10008.5.1.4.1.1.11.",
];

/// Modalities of such objects.
const DERIVED_MODALITIES: [&str; 8] = ["SR", "SEG", "PR", "KO", "DOC", "OT", "REG", "RWV"];

/// One series. Texts are a hospital's free text: they may hold a name, so they go into no log.
#[derive(Clone, Default, PartialEq)]
pub struct SeriesFacts {
    pub uid: String,
    pub modality: Option<String>,
    pub body_part: Option<String>,
    pub description: Option<String>,
    pub protocol: Option<String>,
    pub manufacturer: Option<String>,
    pub sop_class: Option<String>,
    pub slice_thickness_mm: Option<f64>,
    /// Instances, where the archive counts them.
    pub instances: Option<u64>,
}

impl SeriesFacts {
    /// Of an answer of QIDO-RS on the level of series, or of an instance's metadata.
    pub(crate) fn of_json(data: Attributes<'_>) -> Self {
        let text = |tag| data.text(tag).map(str::to_owned);
        let measures =
            data.items(SHARED_GROUPS).first().and_then(|g| g.items(PIXEL_MEASURES).first().copied());
        Self {
            uid: text(SERIES_UID).unwrap_or_default(),
            modality: text(MODALITY),
            body_part: text(BODY_PART),
            description: text(SERIES_DESCRIPTION),
            protocol: text(PROTOCOL),
            manufacturer: text(MANUFACTURER),
            sop_class: text(SOP_CLASS_UID),
            slice_thickness_mm: data
                .number(SLICE_THICKNESS)
                .or_else(|| measures.and_then(|m| m.number(SLICE_THICKNESS))),
            instances: data.count(SERIES_INSTANCES),
        }
    }

    /// Of a file's header.
    pub(crate) fn of_instance(instance: &Instance, instances: u64) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            uid: instance.series_uid.clone(),
            modality: some(&instance.modality),
            body_part: instance.body_part.clone(),
            description: instance.series_description.clone(),
            protocol: instance.protocol.clone(),
            manufacturer: instance.is_own.then(|| OWN_MANUFACTURER.to_owned()),
            sop_class: some(&instance.sop_class),
            slice_thickness_mm: instance.slice_thickness_mm,
            instances: Some(instances),
        }
    }

    /// Fills in what is absent here.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            uid: self.uid,
            modality: self.modality.or(other.modality),
            body_part: self.body_part.or(other.body_part),
            description: self.description.or(other.description),
            protocol: self.protocol.or(other.protocol),
            manufacturer: self.manufacturer.or(other.manufacturer),
            sop_class: self.sop_class.or(other.sop_class),
            slice_thickness_mm: self.slice_thickness_mm.or(other.slice_thickness_mm),
            instances: self.instances.or(other.instances),
        }
    }

    /// Written by this program: told by manufacturer or description, each of which alone is enough. A third sign, the
    /// UIDs that were sent, is the ledger's.
    pub fn is_own(&self) -> bool {
        self.manufacturer.as_deref() == Some(OWN_MANUFACTURER)
            || self.description.as_deref().is_some_and(|d| d.starts_with(OWN_DESCRIPTION))
    }

    /// Made from images (a report, a mask, a map, a picture): never answered, whoever wrote it.
    pub fn is_derived_object(&self) -> bool {
        self.sop_class.as_deref().is_some_and(|c| DERIVED_CLASSES.iter().any(|d| c.starts_with(d)))
            || self.modality.as_deref().is_some_and(|m| DERIVED_MODALITIES.contains(&m))
    }

    /// Whether this is one of our results by a plugin of that name, of any version.
    pub(crate) fn is_result_of(&self, plugin: &str) -> bool {
        let description = self.description.as_deref().unwrap_or_default();
        let Some(title) = description.strip_prefix(OWN_DESCRIPTION) else { return false };
        ["Heatmap, ", "Preview, ", "Segmentation, "].iter().any(|kind| {
            title
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_prefix(plugin))
                .is_some_and(|rest| rest.starts_with(' '))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_sign_of_our_own_objects_is_enough_alone() {
        let facts = SeriesFacts { modality: Some("CT".into()), ..SeriesFacts::default() };
        assert!(!facts.is_own() && !facts.is_derived_object());
        assert!(SeriesFacts { manufacturer: Some("AnyMC3D".into()), ..facts.clone() }.is_own());
        assert!(
            SeriesFacts { description: Some("Research only - findings".into()), ..facts.clone() }.is_own()
        );
        for class in ["88.34", "66.4", "30", "7", "7.4", "104.1", "66", "11.1"] {
            let class = format!("1.2.840.10008.5.1.4.1.1.{class}");
            // Raw data (66) is no result of ours and no image either: by its class alone nothing is said about it.
            let expected = !class.ends_with(".66");
            assert_eq!(SeriesFacts { sop_class: Some(class), ..facts.clone() }.is_derived_object(), expected);
        }
        for scan in ["2", "2.1", "4", "128"] {
            let class = format!("1.2.840.10008.5.1.4.1.1.{scan}");
            assert!(!SeriesFacts { sop_class: Some(class), ..facts.clone() }.is_derived_object());
        }
    }

    #[test]
    fn a_result_names_its_plugin() {
        let of = |d: &str| SeriesFacts { description: Some(d.into()), ..SeriesFacts::default() };
        assert!(of("Research only - Heatmap, lung_nodule 0.1.0").is_result_of("lung_nodule"));
        assert!(!of("Research only - Heatmap, lung_nodule_2 0.1.0").is_result_of("lung_nodule"));
        assert!(!of("Heatmap, lung_nodule 0.1.0").is_result_of("lung_nodule"));
    }

    #[test]
    fn the_thickness_of_a_multi_frame_object_is_its_shared_one() {
        let shared = json!({"52009229": {"vr": "SQ", "Value": [
            {"00289110": {"vr": "SQ", "Value": [{"00180050": {"vr": "DS", "Value": [2.5]}}]}}
        ]}});
        assert_eq!(SeriesFacts::of_json(Attributes(&shared)).slice_thickness_mm, Some(2.5));
    }
}
