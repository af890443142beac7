//! What kind of file this is, by its content.

use std::path::Path;

use crate::scan::VolumeError;

/// Which header a file of the NIfTI family starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Header and voxels in one file, `n+1`.
    Nifti1,
    /// Header here, voxels in an `.img` beside it, `ni1`.
    Nifti1Pair,
    /// `n+2`.
    Nifti2,
    /// `ni2`.
    Nifti2Pair,
    /// Analyze 7.5: a pair without a magic.
    Analyze,
}

impl Family {
    /// Whether the voxels are in an `.img` beside the header.
    pub fn is_pair(self) -> bool {
        matches!(self, Self::Nifti1Pair | Self::Nifti2Pair | Self::Analyze)
    }

    /// Whether the header is NIfTI-2's.
    pub fn is_second(self) -> bool {
        matches!(self, Self::Nifti2 | Self::Nifti2Pair)
    }
}

/// Which header of the family `start` (the first 352 bytes, uncompressed) is; else what it is, and what to do.
pub(crate) fn recognise(path: &Path, start: &[u8], compressed: bool) -> Result<Family, VolumeError> {
    let refuse = |found: &str, todo: &str| {
        let found = if compressed { format!("{found}, gzipped") } else { found.to_string() };
        Err(VolumeError::Format { path: path.to_path_buf(), found, todo: todo.to_string() })
    };
    let dicom = "this DICOM cannot be read: `host doctor` tells why";
    let convert = "this format is not read: save the scan as NIfTI-1, for example with ITK-SNAP or nibabel";
    if start.is_empty() {
        return refuse("an empty file", "copy or download it again");
    }
    let word = |at: usize| start.get(at..at + 4).map(|b| [b[0], b[1], b[2], b[3]]);
    let size = word(0).map(|b| (i32::from_le_bytes(b), i32::from_be_bytes(b)));
    if let Some((le, be)) = size {
        if le == 348 || be == 348 {
            if start.len() < 348 {
                return refuse(
                    &format!("a NIfTI or Analyze header cut short ({} of 348 bytes)", start.len()),
                    "copy or download it again",
                );
            }
            return match &start[344..348] {
                b"n+1\0" => Ok(Family::Nifti1),
                b"ni1\0" => Ok(Family::Nifti1Pair),
                _ if is_header_of_a_pair(path) => Ok(Family::Analyze),
                _ => refuse(
                    "an Analyze 7.5 header, or a NIfTI-1 header without its magic,",
                    "of Analyze give the .hdr with its .img beside it; else export the scan again",
                ),
            };
        }
        if le == 540 || be == 540 {
            return match start.get(4..12) {
                Some(b"n+2\0\r\n\x1a\n") => Ok(Family::Nifti2),
                Some(b"ni2\0\r\n\x1a\n") => Ok(Family::Nifti2Pair),
                _ => refuse(
                    "a NIfTI-2 header without its magic",
                    "line breaks were translated on the way: copy it again, as binary",
                ),
            };
        }
    }
    let known: [(&[u8], &str, &str); 9] = [
        (b"\x89HDF", "HDF5 (MINC 2?)", convert),
        (b"CDF", "NetCDF (MINC 1?)", convert),
        (b"\x89PNG", "a PNG picture", "a 3D scan is needed, not a picture of it"),
        (b"\xff\xd8\xff", "a JPEG picture", "a 3D scan is needed, not a picture of it"),
        (b"%PDF", "a PDF document", "give the scan, not its report"),
        (b"PK\x03\x04", "a zip archive", "unpack it first"),
        (b"BZh", "bzip2", "unpack it with `bunzip2` first"),
        (b"\xfd7zXZ", "xz", "unpack it with `unxz` first"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unpack it with `unzstd` first"),
    ];
    if start.get(128..132) == Some(b"DICM") {
        return refuse("DICOM", dicom);
    }
    if let Some((_, found, todo)) = known.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return refuse(found, todo);
    }
    // A DICOM data set without preamble starts with group 0002 or 0008, little endian.
    if start.len() > 8
        && matches!(start[..2], [0x02, 0] | [0x08, 0])
        && start[3] == 0
        && start[4].is_ascii_uppercase()
        && start[5].is_ascii_uppercase()
    {
        return refuse("what looks like DICOM without its preamble", dicom);
    }
    let text = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\n' | b'\r' | b'\t') || *b >= 0x80;
    if start.iter().all(text) {
        let todo = "check that this is the scan itself, not a download page, a Git LFS pointer or a table";
        return refuse("text", todo);
    }
    let hex: Vec<String> = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
    refuse(
        &format!("an unknown format (first bytes {})", hex.join(" ")),
        "check that the file is a scan and not damaged",
    )
}

fn is_header_of_a_pair(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    name.ends_with(".hdr") || name.ends_with(".hdr.gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_refused_by_their_name() {
        let mut dicom = vec![0; 200];
        dicom[128..132].copy_from_slice(b"DICM");
        let mut two = vec![0; 352];
        two[..4].copy_from_slice(&540i32.to_le_bytes());
        let mut analyze = vec![0; 348];
        analyze[..4].copy_from_slice(&348i32.to_be_bytes());
        let cases: [(&[u8], &str); 7] = [
            (&dicom, "DICOM"),
            (&two, "a NIfTI-2 header without its magic"),
            (&analyze, "an Analyze 7.5 header, or a NIfTI-1 header without its magic,"),
            (b"version https://git-lfs.github.com/spec/v1\n", "text"),
            (b"", "an empty file"),
            (&analyze[..100], "cut short"),
            (&[1, 2, 3, 4, 5, 6, 7, 0xfe, 9], "unknown format (first bytes 01 02 03 04 05 06 07 fe)"),
        ];
        for (bytes, name) in cases {
            let message = recognise(Path::new("x.nii"), bytes, false).unwrap_err().to_string();
            assert!(message.contains(name) && message.starts_with("x.nii: found "), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
