//! What kind of file this is, by its content, and its bytes uncompressed.

use std::io::{self, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::scan::VolumeError;

/// The bytes of a file, plain or as the members of a gzip stream, read once from front to back.
pub(crate) enum Bytes<'a> {
    Plain(&'a [u8]),
    Gzip(Option<Box<GzDecoder<&'a [u8]>>>),
}

impl<'a> Bytes<'a> {
    /// By the magic bytes, never by the name.
    pub fn of(file: &'a [u8]) -> Self {
        if is_gzip(file) { Self::Gzip(Some(Box::new(GzDecoder::new(file)))) } else { Self::Plain(file) }
    }

    /// As many bytes as there are, up to `n`, which is small.
    pub fn up_to(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(n);
        self.by_ref().take(n as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(rest) => rest.read(buffer),
            Self::Gzip(stream) => loop {
                let Some(member) = stream else { return Ok(0) };
                let n = member.read(buffer)?;
                if n > 0 || buffer.is_empty() {
                    return Ok(n);
                }
                // This member is over, its checksum was right. Another may follow; zeros that pad
                // a tape block or other trailing bytes are not part of the file.
                let rest: &[u8] = member.get_ref();
                *stream = is_gzip(rest).then(|| Box::new(GzDecoder::new(rest)));
            },
        }
    }
}

pub(crate) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&[0x1f, 0x8b])
}

/// Which header a file of the NIfTI family starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Header and voxels in one file, `n+1`.
    Nifti1,
    /// Header here, voxels in an `.img` beside it, `ni1`.
    Nifti1Pair,
}

/// Whether `start` (the first 352 bytes, uncompressed) is a NIfTI-1 header; else what it is, and what to do.
pub(crate) fn recognise(path: &Path, start: &[u8], compressed: bool) -> Result<Family, VolumeError> {
    let refuse = |found: &str, todo: &str| {
        let found = if compressed { format!("{found}, gzipped") } else { found.to_string() };
        Err(VolumeError::Format { path: path.to_path_buf(), found, todo: todo.to_string() })
    };
    let dicom = "this DICOM cannot be read: `host doctor` tells why";
    let convert =
        "this format is not read yet: save the scan as NIfTI-1, for example with ITK-SNAP or nibabel";
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
                _ => refuse(
                    "Analyze 7.5",
                    "Analyze is not read yet, it does not say which side is left: convert it to NIfTI-1 with a tool that knows",
                ),
            };
        }
        if le == 540 || be == 540 {
            return refuse(
                "NIfTI-2",
                "NIfTI-2 is not read yet: save it as NIfTI-1, for example with `nib-nifti-dx` or `mri_convert`",
            );
        }
    }
    let known: [(&[u8], &str, &str); 12] = [
        (b"NRRD", "NRRD", convert),
        (b"ObjectType", "MetaImage", convert),
        (b"NDims", "MetaImage", convert),
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(bytes).unwrap();
        e.finish().unwrap()
    }

    #[test]
    fn several_members_read_as_one_and_padding_is_ignored() {
        let mut file = gz(b"abc");
        file.extend(gz(b""));
        file.extend(gz(b"defg"));
        file.extend([0; 512]);
        assert_eq!(Bytes::of(&file).up_to(100).unwrap(), b"abcdefg");
    }

    #[test]
    fn other_formats_are_refused_by_their_name() {
        let mut dicom = vec![0; 200];
        dicom[128..132].copy_from_slice(b"DICM");
        let mut two = vec![0; 352];
        two[..4].copy_from_slice(&540i32.to_le_bytes());
        let mut analyze = vec![0; 348];
        analyze[..4].copy_from_slice(&348i32.to_be_bytes());
        let cases: [(&[u8], &str); 8] = [
            (&dicom, "DICOM"),
            (&two, "NIfTI-2"),
            (&analyze, "Analyze 7.5"),
            (b"NRRD0004\n", "NRRD"),
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
