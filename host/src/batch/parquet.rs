//! `predictions.parquet`: a row for each case, plugin and label; a failed case is a row without label, with its reason.

use super::merge::{Answer, Merged};
use crate::engine::result::Novelty;
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use std::io::Write;
use std::sync::Arc;

/// Rows of a row group: a reader holds one at a time.
const GROUP: usize = 1 << 18;

const SCHEMA: &str = "
message predictions {
    REQUIRED BYTE_ARRAY case (UTF8);
    REQUIRED BYTE_ARRAY plugin (UTF8);
    OPTIONAL BYTE_ARRAY label (UTF8);
    OPTIONAL DOUBLE probability;
    OPTIONAL DOUBLE logit;
    OPTIONAL DOUBLE threshold;
    OPTIONAL BOOLEAN positive;
    OPTIONAL DOUBLE value;
    OPTIONAL DOUBLE novelty_distance;
    OPTIONAL DOUBLE novelty_percentile;
    OPTIONAL BOOLEAN novelty_outside;
    OPTIONAL BYTE_ARRAY kind (UTF8);
    OPTIONAL BYTE_ARRAY failed (UTF8);
}";

/// One row.
#[derive(Default)]
struct Row<'a> {
    case: &'a str,
    plugin: &'a str,
    label: Option<&'a str>,
    probability: Option<f64>,
    logit: Option<f64>,
    threshold: Option<f64>,
    positive: Option<bool>,
    value: Option<f64>,
    novelty: Option<&'a Novelty>,
    kind: Option<&'a str>,
    failed: Option<&'a str>,
}

/// Writes the table, sorted as `predictions.csv` is.
///
/// # Errors
/// When it cannot be written.
pub fn predictions_parquet(merged: &Merged, to: impl Write + Send) -> std::io::Result<()> {
    write(merged, to).map_err(std::io::Error::other)
}

fn write(merged: &Merged, to: impl Write + Send) -> Result<()> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(to, schema, Arc::new(WriterProperties::builder().build()))?;
    let mut rows = Vec::new();
    for case in &merged.cases {
        for (task, answer) in merged.tasks.iter().zip(&case.answers) {
            let (case, plugin) = (case.case.as_str(), task.identity.plugin.as_str());
            let row = || Row { case, plugin, novelty: answer.novelty(), ..Row::default() };
            match answer {
                Answer::Predicted { predictions, values, .. } => {
                    rows.extend(predictions.iter().map(|p| Row {
                        label: Some(&p.label),
                        probability: Some(p.probability),
                        logit: Some(p.logit),
                        threshold: p.threshold,
                        positive: Some(p.positive),
                        ..row()
                    }));
                    rows.extend(values.iter().map(|v| Row {
                        label: Some(&v.label),
                        value: Some(v.value),
                        ..row()
                    }));
                }
                Answer::Failed { kind, reason } => {
                    rows.push(Row { kind: kind.map(|kind| kind.name()), failed: Some(reason), ..row() });
                }
                Answer::NothingForIt => {}
            }
        }
        if rows.len() >= GROUP {
            group(&mut file, &rows)?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        group(&mut file, &rows)?;
    }
    file.close().map(drop)
}

fn group(file: &mut SerializedFileWriter<impl Write + Send>, rows: &[Row<'_>]) -> Result<()> {
    let mut group = file.next_row_group()?;
    let text = |s: &str| ByteArray::from(s.as_bytes().to_vec());
    // In the order of the schema.
    required(&mut group, rows, |r| text(r.case))?;
    required(&mut group, rows, |r| text(r.plugin))?;
    optional::<_, ByteArrayType>(&mut group, rows, |r| r.label.map(text))?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.probability)?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.logit)?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.threshold)?;
    optional::<_, BoolType>(&mut group, rows, |r| r.positive)?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.value)?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.novelty.map(|n| n.distance))?;
    optional::<_, DoubleType>(&mut group, rows, |r| r.novelty.map(|n| n.percentile))?;
    optional::<_, BoolType>(&mut group, rows, |r| r.novelty.map(|n| n.outside))?;
    optional::<_, ByteArrayType>(&mut group, rows, |r| r.kind.map(text))?;
    optional::<_, ByteArrayType>(&mut group, rows, |r| r.failed.map(text))?;
    group.close().map(drop)
}

fn required<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Row<'_>],
    of: impl Fn(&Row<'_>) -> ByteArray,
) -> Result<()> {
    let values: Vec<ByteArray> = rows.iter().map(of).collect();
    column::<_, ByteArrayType>(group, &values, None)
}

fn optional<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Row<'_>],
    of: impl Fn(&Row<'_>) -> Option<T::T>,
) -> Result<()> {
    let all: Vec<Option<T::T>> = rows.iter().map(of).collect();
    let levels: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = all.into_iter().flatten().collect();
    column::<_, T>(group, &values, Some(&levels))
}

fn column<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let more = || ParquetError::General("more columns than the schema has".to_owned());
    let mut column = group.next_column()?.ok_or_else(more)?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::merged;
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::RowAccessor;

    fn file(bytes: &[u8]) -> std::fs::File {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), bytes).unwrap();
        std::fs::File::open(path.path()).unwrap()
    }

    #[test]
    fn every_label_is_a_row_and_a_failed_case_is_one_with_its_reason() {
        let mut bytes = Vec::new();
        predictions_parquet(&merged(), &mut bytes).unwrap();
        let reader = SerializedFileReader::new(file(&bytes)).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        // lung 1, chest 2, knee 2 steps and their value; the failed case 1 for each of two plugins.
        assert_eq!(rows.len(), 8);
        assert_eq!(rows[0].get_string(1).unwrap(), "lung");
        assert_eq!(rows[0].get_double(3).unwrap(), 0.1 + 0.2);
        assert_eq!(rows[5].get_double(7).unwrap(), 1.1);
        assert_eq!(rows[7].get_string(12).unwrap(), "cut short, at byte 7");
        assert!(rows[7].get_double(3).is_err(), "null");
    }
}
