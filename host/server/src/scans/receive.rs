//! What a body is, by its content: NIfTI, a zip, or DICOM files. The client's names for files are not looked at: they may
//! hold a patient's, or lead elsewhere.

use super::multipart::{Multipart, PartHeaders, Piece, boundary};
use super::sink::Sink;
use crate::body::{Receiving, check_length};
use crate::error::ApiError;
use crate::jobs::{Intake, JobRegion};
use crate::options::RequestLimits;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The folder of a job's DICOM files.
const DICOM: &str = "dicom";
/// Most bytes of a form's field that is no file.
const FIELD: usize = 4 << 10;
/// Most of a form's fields that are no files: they are kept in memory.
const FIELDS: usize = 64;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Name of the scan's file or folder in the intake's folder.
    pub scan: String,
    /// Digest of the file; of several that of their digests in order.
    pub sha256: String,
    /// Where to look.
    pub region: JobRegion,
    /// The plugins that a form names.
    pub plugins: Vec<String>,
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Nifti,
    Gzip,
    Zip,
    Dicom,
}

fn content(start: &[u8]) -> Option<Content> {
    let size = start.first_chunk::<4>().map(|b| [i32::from_le_bytes(*b), i32::from_be_bytes(*b)]);
    match start {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Content::Zip),
        [0x1f, 0x8b, ..] => Some(Content::Gzip),
        _ if start.get(128..132) == Some(b"DICM") => Some(Content::Dicom),
        _ if size.is_some_and(|size| size.contains(&348) || size.contains(&540)) => Some(Content::Nifti),
        _ => None,
    }
}

fn unknown() -> ApiError {
    let message = "expected a scan: NIfTI (.nii, .nii.gz), a zip of DICOM files, or DICOM files (multipart/related or \
                   multipart/form-data)";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// Receives a body into the folder of an intake.
pub(crate) async fn receive(
    intake: &Intake,
    headers: &HeaderMap,
    body: Body,
    limits: &RequestLimits,
) -> Result<Received, ApiError> {
    check_length(headers, limits.scan_bytes)?;
    let packed = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    if !matches!(packed, None | Some(b"identity" | b"")) {
        let message = "Content-Encoding: send the scan's file as it is";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut receiving = Receiving::new(body, limits.scan_bytes, limits);
    let mut files = Files::new(intake.folder(), limits.scan_files);
    if kind.to_ascii_lowercase().starts_with("multipart/") {
        let boundary =
            boundary(kind).ok_or_else(|| ApiError::bad_request("multipart: expected a boundary"))?;
        parts(&mut receiving, &boundary, &mut files).await?;
    } else {
        let mut sink = Sink::create(&intake.folder().join("arriving"))?;
        while let Some(bytes) = receiving.next().await? {
            sink.write(&bytes).await?;
        }
        let is_dicom = kind.to_ascii_lowercase().starts_with("application/dicom");
        files.file(sink, is_dicom).await?;
    }
    files.received()
}

async fn parts(receiving: &mut Receiving, boundary: &str, files: &mut Files<'_>) -> Result<(), ApiError> {
    let wrong = |e: super::multipart::MultipartError| ApiError::bad_request(e.to_string());
    let mut multipart = Multipart::new(boundary);
    let mut open: Option<(PartHeaders, Target)> = None;
    while let Some(bytes) = receiving.next().await? {
        for piece in multipart.push(&bytes).map_err(wrong)? {
            match piece {
                Piece::Begin(headers) => {
                    let target = match headers.name.as_deref() {
                        Some("plugin" | "point") => files.field()?,
                        _ => Target::File(Sink::create(&files.folder.join("arriving"))?),
                    };
                    open = Some((headers, target));
                }
                Piece::Data(data) => match &mut open {
                    Some((_, Target::File(sink))) => sink.write(&data).await?,
                    Some((_, Target::Field(text))) if text.len() + data.len() <= FIELD => text.extend(data),
                    _ => return Err(ApiError::bad_request("a field of the form is too long")),
                },
                Piece::Finish => {
                    if let Some((headers, target)) = open.take() {
                        files.part(headers, target).await?;
                    }
                }
            }
        }
    }
    multipart.finish().map_err(wrong)
}

/// Where a part goes.
enum Target {
    File(Sink),
    Field(Vec<u8>),
}

/// The files of a scan so far.
struct Files<'a> {
    folder: &'a Path,
    most: usize,
    scan: Option<&'static str>,
    digests: Vec<String>,
    mask_digest: Option<String>,
    region: JobRegion,
    plugins: Vec<String>,
    /// How many fields that are no files have begun.
    fields: usize,
}

impl<'a> Files<'a> {
    fn new(folder: &'a Path, most: usize) -> Self {
        Self {
            folder,
            most,
            scan: None,
            digests: Vec::new(),
            mask_digest: None,
            region: JobRegion::default(),
            plugins: Vec::new(),
            fields: 0,
        }
    }

    /// A field that is no file begins.
    fn field(&mut self) -> Result<Target, ApiError> {
        self.fields += 1;
        if self.fields > FIELDS {
            let message = format!(
                "the form: found more than {FIELDS} fields, expected at most {FIELDS} of plugin and point; \
                 name each plugin once"
            );
            return Err(ApiError::bad_request(message));
        }
        Ok(Target::Field(Vec::new()))
    }

    async fn part(&mut self, headers: PartHeaders, target: Target) -> Result<(), ApiError> {
        let kind = headers.content_type.unwrap_or_default().to_ascii_lowercase();
        match (headers.name.as_deref(), target) {
            (Some("mask"), Target::File(sink)) => self.mask(sink).await,
            (_, Target::File(sink)) => self.file(sink, kind.starts_with("application/dicom")).await,
            (name, Target::Field(text)) => {
                let text =
                    String::from_utf8(text).map_err(|_| ApiError::bad_request("a field that is no text"))?;
                match name {
                    Some("point") => self.region.point_mm = Some(point(&text)?),
                    _ => name_once(&mut self.plugins, text.trim().to_owned()),
                }
                Ok(())
            }
        }
    }

    /// A file of the scan has arrived.
    async fn file(&mut self, sink: Sink, is_dicom: bool) -> Result<(), ApiError> {
        let (digest, start) = sink.finish().await?;
        let found = if is_dicom { Some(Content::Dicom) } else { content(&start) };
        let name = match found.ok_or_else(unknown)? {
            Content::Nifti => "scan.nii",
            Content::Gzip => "scan.nii.gz",
            Content::Zip => "exam.zip",
            Content::Dicom => DICOM,
        };
        if self.scan.is_some_and(|before| before != DICOM || name != DICOM) {
            return Err(ApiError::bad_request("expected one NIfTI file, one zip, or DICOM files alone"));
        }
        if self.digests.len() >= self.most {
            return Err(ApiError::too_large(format!("more than the {} files that are taken", self.most)));
        }
        let moved = || -> std::io::Result<()> {
            let folder = self.folder.join(DICOM);
            let to = match name {
                DICOM => {
                    if self.digests.is_empty() {
                        std::fs::create_dir(&folder)?;
                    }
                    folder.join(format!("{:06}.dcm", self.digests.len()))
                }
                name => self.folder.join(name),
            };
            std::fs::rename(self.folder.join("arriving"), to)
        };
        moved().map_err(ApiError::internal)?;
        self.scan = Some(name);
        self.digests.push(digest);
        Ok(())
    }

    async fn mask(&mut self, sink: Sink) -> Result<(), ApiError> {
        let (digest, start) = sink.finish().await?;
        let name = match content(&start) {
            Some(Content::Nifti) => "mask.nii",
            Some(Content::Gzip) => "mask.nii.gz",
            _ => return Err(ApiError::bad_request("mask: expected NIfTI (.nii, .nii.gz)")),
        };
        if self.region.mask.is_some() {
            return Err(ApiError::bad_request("mask: given twice"));
        }
        std::fs::rename(self.folder.join("arriving"), self.folder.join(name)).map_err(ApiError::internal)?;
        self.region.mask = Some(name.to_owned());
        self.mask_digest = Some(digest);
        Ok(())
    }

    fn received(mut self) -> Result<Received, ApiError> {
        let scan = self.scan.ok_or_else(unknown)?;
        // The same scan with another mask is another upload.
        self.digests.extend(self.mask_digest);
        let sha256 = match self.digests.as_slice() {
            [one] if scan != DICOM => one.clone(),
            all => anymc3d_host::fs::hex(&Sha256::digest(all.join("\n"))),
        };
        Ok(Received { scan: scan.to_owned(), sha256, region: self.region, plugins: self.plugins })
    }
}

/// Adds a plugin's name where it is not there yet: one that is named twice is asked once.
pub(crate) fn name_once(plugins: &mut Vec<String>, name: String) {
    if !plugins.contains(&name) {
        plugins.push(name);
    }
}

/// `x,y,z` in RAS mm.
pub(crate) fn point(text: &str) -> Result<[f64; 3], ApiError> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    let finite = numbers.filter(|all| all.iter().all(|v| v.is_finite()));
    finite
        .and_then(|all| all.try_into().ok())
        .ok_or_else(|| ApiError::bad_request("point: expected x,y,z in RAS millimetres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_content_and_formats_that_name_other_files_are_none() {
        let mut dicom = vec![0; 132];
        dicom[128..].copy_from_slice(b"DICM");
        assert_eq!(content(&dicom), Some(Content::Dicom));
        assert_eq!(content(&348i32.to_le_bytes()), Some(Content::Nifti));
        assert_eq!(content(&540i32.to_be_bytes()), Some(Content::Nifti));
        assert_eq!(content(b"PK\x03\x04"), Some(Content::Zip));
        assert_eq!(content(b"\x1f\x8b\x08"), Some(Content::Gzip));
        for other in [&b"ObjectType = Image\nElementDataFile = /etc/passwd"[..], b"NRRD0004", b"", b"<html>"]
        {
            assert_eq!(content(other), None);
        }
    }

    /// The plugins that a form with these fields names.
    fn named(plugins: &[String]) -> Result<Vec<String>, ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let mut body = String::new();
        for plugin in plugins {
            body += "--b\r\nContent-Disposition: form-data; name=\"plugin\"\r\n\r\n";
            body += &format!("{plugin}\r\n");
        }
        body += "--b--\r\n";
        let limits = RequestLimits::default();
        let mut receiving = Receiving::new(Body::from(body), limits.scan_bytes, &limits);
        let mut files = Files::new(folder.path(), limits.scan_files);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(parts(&mut receiving, "b", &mut files)).map(|()| files.plugins)
    }

    #[test]
    fn fields_of_a_form_have_an_end_and_a_plugin_that_is_named_twice_is_asked_once() {
        let names = ["b", "a", " b", "c", "a "].map(str::to_owned);
        assert_eq!(named(&names).unwrap(), ["b", "a", "c"]);
        let mut many: Vec<String> = (0..FIELDS).map(|at| format!("plugin_{at}")).collect();
        assert_eq!(named(&many).unwrap(), many);
        many.push("plugin_0".to_owned());
        let refused = named(&many).unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.message.contains("found more than 64 fields, expected at most 64"), "{refused:?}");
        assert_eq!(named(&["x".repeat(FIELD)]).unwrap(), ["x".repeat(FIELD)]);
        assert!(named(&["x".repeat(FIELD + 1)]).unwrap_err().message.contains("too long"));
    }

    #[test]
    fn a_point_is_three_finite_numbers() {
        assert_eq!(point("1, -2.5,3").unwrap(), [1.0, -2.5, 3.0]);
        assert!(["", "1,2", "1,2,3,4", "a,b,c", "1,2,inf"].iter().all(|text| point(text).is_err()));
    }
}
