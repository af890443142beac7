//! Where the model looked and what it outlined: heatmaps and masks on the scan's own grid, and pictures of them.

pub(crate) mod colour;
mod dicom_objects;
pub(crate) mod drawing;
mod evidence;
mod failures;
mod folder;
pub mod hdf5;
mod heatmap;
mod id_salt;
mod kept;
mod mask;
pub(crate) mod naming;
mod preview;
mod report;
mod segmentation;
mod standard;
#[cfg(test)]
mod tests;
mod writer;

pub use dicom_objects::DicomWriter;
pub use evidence::{HeatmapWriter, PreviewWriter};
pub use folder::{OutputFolder, try_file};
pub use heatmap::{Heatmap, Peak, ViewHeat, on_scan, peak, slice_heat, upsample};
pub use id_salt::{SALT_FILE, random_salt, salt_of_file, salt_of_folder};
pub use kept::KeptResult;
pub use mask::{SegmentationMask, mask_on_scan, volume_ml};
pub use preview::{Finding, Preview, PreviewError, montage, percent};
pub(crate) use report::rename_in_report;
pub use report::{REPORT_STYLE, ReportWriter, VIEWER_SCRIPT};
pub use segmentation::SegmentationWriter;
pub use standard::{standard_writer, standard_writers};
pub(crate) use writer::write_record;
pub use writer::{MakeWriter, ResultParts, ResultWriter, WriterSpec, need_evidence, record};
