//! Why a file, a series or a volume was refused: a closed list of kinds, and a sentence for the reader of a log.

use std::fmt;
use std::path::{Path, PathBuf};

/// The reason of a refusal. The list is closed: every file that this crate does not read has one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The file system or a zip member could not be read.
    Io,
    /// Neither `DICM`, nor a file meta group, nor a data set that starts with group 0008.
    NotDicom,
    /// The file ends inside its header or before the last frame.
    Truncated,
    /// The header contradicts itself, or nests deeper than [`crate::Limits::depth`].
    Malformed,
    /// A size in the header, a zip or a folder is above the limit that the caller passed.
    AboveLimit,
    /// The file has no pixel data: a report, a presentation state, a structure set, a directory.
    NoPixelData,
    /// A required attribute is absent or unreadable.
    BadAttribute,
    /// More than one sample per pixel, or a palette: a picture, not a measurement.
    Colour,
    /// No decoder for this transfer syntax.
    UnsupportedTransferSyntax,
    /// JPEG-LS, and this program was built without the feature `jpeg-ls`.
    JpegLsNotBuilt,
    /// 12-bit lossy JPEG (process 4), which the decoder gets wrong.
    TwelveBitJpeg,
    /// Bits allocated, stored or high bit in a combination that is not read.
    UnsupportedPixelFormat,
    /// The decoder failed, or gave another number of frames, rows or columns than the header says.
    DecodeFailed,
    /// Rescale slope or intercept partial, unparseable, zero or not finite, or a broken Modality LUT.
    BadRescale,
    /// No position or orientation in the patient: not a slice of a volume.
    NoPosition,
    /// Several slices at the same position that no attribute tells apart.
    RepeatedPositions,
    /// Gaps between the slices above the limit.
    HoleInSeries,
    /// Gantry tilt above the limit.
    TiltAboveLimit,
    /// Series, stack or time point must be named by the caller.
    ChoiceNeeded,
    /// Nothing in the study fits the request.
    NothingFits,
    /// A zip inside a zip, or one that unpacks to far more than it holds.
    RefusedArchive,
}

impl ErrorKind {
    /// Every kind, in the order of the table in the documentation.
    pub const ALL: [Self; 21] = [
        Self::Io,
        Self::NotDicom,
        Self::Truncated,
        Self::Malformed,
        Self::AboveLimit,
        Self::NoPixelData,
        Self::BadAttribute,
        Self::Colour,
        Self::UnsupportedTransferSyntax,
        Self::JpegLsNotBuilt,
        Self::TwelveBitJpeg,
        Self::UnsupportedPixelFormat,
        Self::DecodeFailed,
        Self::BadRescale,
        Self::NoPosition,
        Self::RepeatedPositions,
        Self::HoleInSeries,
        Self::TiltAboveLimit,
        Self::ChoiceNeeded,
        Self::NothingFits,
        Self::RefusedArchive,
    ];

    /// A stable name for tables and JSON, such as `no-pixel-data`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::NotDicom => "not-dicom",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::AboveLimit => "above-limit",
            Self::NoPixelData => "no-pixel-data",
            Self::BadAttribute => "bad-attribute",
            Self::Colour => "colour",
            Self::UnsupportedTransferSyntax => "unsupported-transfer-syntax",
            Self::JpegLsNotBuilt => "jpeg-ls-not-built",
            Self::TwelveBitJpeg => "twelve-bit-jpeg",
            Self::UnsupportedPixelFormat => "unsupported-pixel-format",
            Self::DecodeFailed => "decode-failed",
            Self::BadRescale => "bad-rescale",
            Self::NoPosition => "no-position",
            Self::RepeatedPositions => "repeated-positions",
            Self::HoleInSeries => "hole-in-series",
            Self::TiltAboveLimit => "tilt-above-limit",
            Self::ChoiceNeeded => "choice-needed",
            Self::NothingFits => "nothing-fits",
            Self::RefusedArchive => "refused-archive",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: what was found, what was expected, what to do.
///
/// The message holds numbers, attribute names and UIDs, never text from the attributes of a patient. The file is a
/// path that the caller passed or that lies below one: file names can carry identity, so whether to show them is
/// the caller's decision ([`DicomError::without_file`]).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{message}", prefix(.file))]
pub struct DicomError {
    /// Which rule refused.
    pub kind: ErrorKind,
    /// The file concerned, where it is one file. A zip member is `archive.zip!member`.
    pub file: Option<PathBuf>,
    message: String,
}

fn prefix(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|f| format!("{}: ", f.display())).unwrap_or_default()
}

impl DicomError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, file: None, message: message.into() }
    }

    pub(crate) fn io(error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("could not be read: {error}"))
    }

    /// Names the file, unless one closer to the cause is named already.
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file.get_or_insert_with(|| file.to_path_buf());
        self
    }

    /// What happened, without the name of the file.
    pub fn without_file(&self) -> &str {
        &self.message
    }
}

pub(crate) type Result<T, E = DicomError> = std::result::Result<T, E>;
