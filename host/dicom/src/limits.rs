//! Upper bounds that the caller sets. A number in a header is never enough to allocate memory.

/// Limits of one scan and of one volume. [`Limits::default`] suits a workstation with 16 GB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Files looked at below one folder or in one zip.
    pub files: usize,
    /// Depth of folders, and of sequences in a header.
    pub depth: usize,
    /// Bytes of a header up to its pixel data.
    pub header_bytes: u64,
    /// Bytes of one file, unpacked.
    pub file_bytes: u64,
    /// Bytes of a volume as f32, before and after straightening.
    pub volume_bytes: u64,
    /// Frames of one multi-frame file.
    pub frames: usize,
    /// A zip whose members unpack to more than this many times its size is refused (above 64 MiB in all).
    pub zip_ratio: u64,
    /// Gaps between slices above this many times the median gap are a hole.
    pub gap_ratio: f64,
    /// Gantry tilt in degrees above which a series is refused instead of straightened.
    pub tilt_degrees: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 500_000,
            depth: 64,
            header_bytes: 256 << 20,
            file_bytes: 8 << 30,
            volume_bytes: 8 << 30,
            frames: 100_000,
            zip_ratio: 200,
            gap_ratio: 4.0,
            tilt_degrees: 45.0,
        }
    }
}
