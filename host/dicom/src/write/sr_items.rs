//! Content items of structured reports.

use super::attribute::*;
use super::code::Code;
use super::encode::{DataSet, decimal};

/// How an item belongs to its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relation {
    Contains,
    ObservationContext,
    AcquisitionContext,
    ConceptModifier,
}
pub(crate) use Relation::{AcquisitionContext, ConceptModifier, Contains, ObservationContext};

fn item(relation: Relation, value_type: &str, name: &Code) -> DataSet {
    let mut item = nameless(relation, value_type);
    item.item(ConceptNameCodeSequence, name.item());
    item
}

fn nameless(relation: Relation, value_type: &str) -> DataSet {
    let relation = match relation {
        Contains => "CONTAINS",
        ObservationContext => "HAS OBS CONTEXT",
        AcquisitionContext => "HAS ACQ CONTEXT",
        ConceptModifier => "HAS CONCEPT MOD",
    };
    DataSet::build(|d| {
        d.text(RelationshipType, relation).text(ValueType, value_type);
    })
}

/// What makes a container: for the root, which has no relation, and for the others.
pub(crate) fn fill_container(data: &mut DataSet, name: &Code, template: Option<&str>, content: Vec<DataSet>) {
    data.text(ValueType, "CONTAINER")
        .item(ConceptNameCodeSequence, name.item())
        .text(ContinuityOfContent, "SEPARATE")
        .items(ContentSequence, content);
    if let Some(template) = template {
        data.item(
            ContentTemplateSequence,
            DataSet::build(|t| {
                t.text(MappingResource, "DCMR").text(TemplateIdentifier, template);
            }),
        );
    }
}

pub(crate) fn container(
    relation: Relation,
    name: &Code,
    template: Option<&str>,
    content: Vec<DataSet>,
) -> DataSet {
    let mut data = nameless(relation, "CONTAINER");
    fill_container(&mut data, name, template, content);
    data
}

pub(crate) fn code(relation: Relation, name: &Code, value: &Code) -> DataSet {
    let mut data = item(relation, "CODE", name);
    data.item(ConceptCodeSequence, value.item());
    data
}

/// Text; a dash where there is none, since the value must not be empty.
pub(crate) fn text(relation: Relation, name: &Code, value: &str) -> DataSet {
    let mut data = item(relation, "TEXT", name);
    data.text(TextValue, super::provenance::or(value, "-"));
    data
}

pub(crate) fn uid_reference(relation: Relation, name: &Code, value: &str) -> DataSet {
    let mut data = item(relation, "UIDREF", name);
    data.text(UID, value);
    data
}

pub(crate) fn person_name(relation: Relation, name: &Code, value: &str) -> DataSet {
    let mut data = item(relation, "PNAME", name);
    data.text(PersonName, value);
    data
}

pub(crate) fn number(relation: Relation, name: &Code, value: f64, unit: &Code) -> DataSet {
    let mut data = item(relation, "NUM", name);
    data.item(
        MeasuredValueSequence,
        DataSet::build(|m| {
            let shown = decimal(value);
            // Sixteen characters may not hold all digits.
            if shown.parse() != Ok(value) {
                m.f64(FloatingPointValue, value);
            }
            m.text(NumericValue, shown).item(MeasurementUnitsCodeSequence, unit.item());
        }),
    );
    data
}

/// A reference to an image, with a name where the template has one.
pub(crate) fn image(relation: Relation, name: Option<&Code>, reference: DataSet) -> DataSet {
    let mut data = nameless(relation, "IMAGE");
    if let Some(name) = name {
        data.item(ConceptNameCodeSequence, name.item());
    }
    data.item(ReferencedSOPSequence, reference);
    data
}
