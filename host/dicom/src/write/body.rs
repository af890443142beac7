//! Body part and laterality of image objects.

use super::attribute::*;
use super::encode::DataSet;

/// What an object says about the part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// Documents say it in their content.
    None,
    /// Segmentations: dciodvfy forbids Laterality.
    Part,
    PartAndLaterality,
}

/// Parts of which there is one (as in dciodvfy, tried with each term of PS3.16 annex L): Laterality is forbidden.
#[rustfmt::skip]
const UNPAIRED: [&str; 61] = [
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX", "CHEST",
    "CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON", "CORONARYARTERY", "CSPINE",
    "CTSPINE", "DUODENUM", "ESOPHAGUS", "GALLBLADDER", "HEAD", "HEADNECK", "HEART", "ILEUM", "ILIUM", "JAW",
    "JEJUNUM", "LARYNX", "LIVER", "LSPINE", "LSSPINE", "MAXILLA", "MEDIASTINUM", "NECK", "NECKCHEST",
    "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM",
    "SCALP", "SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE",
    "TRACHEA", "TSPINE", "URETER", "URETHRA", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY",
];

impl Body {
    /// Writes what the source says. Laterality is type 2C: present for every part that may be paired, empty where
    /// nobody said the side.
    pub fn write(self, part: Option<&str>, side: Option<&str>, data: &mut DataSet) {
        if self == Self::None {
            return;
        }
        if let Some(part) = part {
            data.text(BodyPartExamined, part);
        }
        if self == Self::Part || part.is_some_and(|p| UNPAIRED.contains(&p)) {
            return;
        }
        match side {
            Some(side) => data.text(Laterality, side),
            None => data.empty(Laterality),
        };
    }
}
