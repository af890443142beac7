//! Who made an object and when, and the modules that all objects share.

use super::attribute::*;
use super::body::Body;
use super::encode::{DataSet, part10};
use super::moment::Moment;
use super::source::SourceSeries;
use super::uid::Uids;
use crate::error::Result;
use crate::exclusion::OWN_MANUFACTURER;

/// The software, as Enhanced General Equipment wants it. The manufacturer is [`OWN_MANUFACTURER`]: by it the reader
/// leaves our own objects out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// ManufacturerModelName.
    pub name: String,
    pub version: String,
    /// DeviceSerialNumber: the installation; an empty one is written as `0`.
    pub serial: String,
}

/// Who made the objects of one run, and when. Series numbers count up from the first one.
#[derive(Debug, Clone)]
pub struct Provenance {
    pub software: Software,
    pub made: Moment,
    pub uids: Uids,
    /// SeriesNumber of the next object; each object is a series of its own.
    pub series_number: u32,
}

/// A complete Part 10 file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub sop_class: &'static str,
    pub sop_instance: String,
    pub series_uid: String,
    pub bytes: Vec<u8>,
}

/// What an object is, for the modules that all share.
pub(crate) struct Kind<'a> {
    pub sop_class: &'static str,
    pub modality: &'a str,
    /// Follows "Research only - ".
    pub title: &'a str,
    /// Which attributes of the body it takes.
    pub body: Body,
}

/// An object in the making.
pub(crate) struct Draft {
    pub data: DataSet,
    sop_class: &'static str,
    sop_instance: String,
    series_uid: String,
    utf8: bool,
}

impl Draft {
    /// Patient, study, series, equipment, SOP common, and the moment of the content.
    pub fn new(source: &SourceSeries, origin: &mut Provenance, kind: &Kind) -> Self {
        let carried = &source.carried;
        let (sop_instance, series_uid) = (origin.uids.make(), origin.uids.make());
        let utc_offset_minutes = carried.utc_offset_minutes.unwrap_or(origin.made.utc_offset_minutes);
        let made = Moment { utc_offset_minutes, ..origin.made };
        let Software { name, version, serial } = &origin.software;
        let mut data = carried.study.clone();
        data.text(SOPClassUID, kind.sop_class)
            .text(SOPInstanceUID, &sop_instance)
            .text(StudyInstanceUID, &source.study_uid)
            .text(SeriesInstanceUID, &series_uid)
            .text(Modality, kind.modality)
            .integer(SeriesNumber, origin.series_number)
            .text(SeriesDescription, format!("Research only - {}", kind.title))
            .integer(InstanceNumber, 1)
            .text(Manufacturer, OWN_MANUFACTURER)
            .text(ManufacturerModelName, or(name, OWN_MANUFACTURER))
            .text(SoftwareVersions, or(version, "unknown"))
            .text(DeviceSerialNumber, or(serial, "0"))
            .text(TimezoneOffsetFromUTC, made.offset());
        for (date, time) in [
            (InstanceCreationDate, InstanceCreationTime),
            (SeriesDate, SeriesTime),
            (ContentDate, ContentTime),
        ] {
            data.text(date, made.date()).text(time, made.time());
        }
        kind.body.write(carried.body_part.as_deref(), carried.laterality.as_deref(), &mut data);
        origin.series_number += 1;
        Self { data, sop_class: kind.sop_class, sop_instance, series_uid, utf8: carried.utf8 }
    }

    /// Frame of Reference module.
    pub fn place(&mut self, source: &SourceSeries) {
        self.data.text(FrameOfReferenceUID, &source.frame_of_reference).text(
            PositionReferenceIndicator,
            source.carried.position_reference.as_deref().unwrap_or_default(),
        );
    }

    pub fn finish(self) -> Result<Object> {
        let bytes = part10(&self.data, self.sop_class, &self.sop_instance, self.utf8)?;
        Ok(Object {
            sop_class: self.sop_class,
            sop_instance: self.sop_instance,
            series_uid: self.series_uid,
            bytes,
        })
    }
}

/// `text`, or `other` where it is empty.
pub(crate) fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.trim().is_empty() { other } else { text }
}

/// A label as CS allows it.
pub(crate) fn label(text: &str) -> String {
    let clean = |c: char| {
        let c = c.to_ascii_uppercase();
        if c.is_ascii_uppercase() || c.is_ascii_digit() { c } else { '_' }
    };
    text.trim().chars().map(clean).take(16).collect()
}
