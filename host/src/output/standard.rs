//! The writers that come with the library.

use super::writer::{ResultWriter, WriterSpec};
use super::{DicomWriter, HeatmapWriter, PreviewWriter, ReportWriter, SegmentationWriter};
use std::sync::Arc;

/// What `host run --out` writes beside `result.json`: the mask where there is one and, with `evidence`, heatmap and
/// preview.
pub fn standard_writers(evidence: bool) -> Vec<Arc<dyn ResultWriter>> {
    match evidence {
        true => vec![Arc::new(HeatmapWriter), Arc::new(PreviewWriter), Arc::new(SegmentationWriter)],
        false => vec![Arc::new(SegmentationWriter)],
    }
}

/// One of the library's writers by its spec; `None` where it has no such writer.
pub fn standard_writer(spec: &WriterSpec) -> Option<Arc<dyn ResultWriter>> {
    if let Some(report) = ReportWriter::of_spec(spec) {
        return Some(Arc::new(report));
    }
    let mut all = standard_writers(true);
    all.push(Arc::new(DicomWriter));
    all.into_iter().find(|writer| writer.spec() == *spec)
}
