//! NRRD: a text header (`NRRD0001` to `0005`), numbers after it (`.nrrd`) or in a file that it names (`.nhdr`).
//!
//! Read as <https://teem.sourceforge.net/nrrd/format.html> says: raw or gzip, three axes, in a space of the patient.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::scan::limits::ReadLimits;
use crate::scan::numbers::{NumberType, Numbers};
use crate::scan::raw_image::{
    self, DAMAGED, DataFile, LPS, Packing, RawImage, Skip, affine_of, beside, name_warning, numbers_in,
    refuse, triple,
};
use crate::scan::source::{ScanPath, Source, ToldBy};
use crate::scan::{Affine, Scan, VolumeError};

const EXTENSIONS: [&str; 2] = [".nrrd", ".nhdr"];

/// NRRD as a source of scans.
pub(crate) struct Nrrd;

impl Source for Nrrd {
    fn name(&self) -> &'static str {
        "NRRD"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &EXTENSIONS
    }

    fn identify(&self, path: &ScanPath, start: &[u8]) -> Option<ToldBy> {
        if start.starts_with(b"NRRD") {
            return Some(ToldBy::Content);
        }
        name_warning(&path.file, &EXTENSIONS, "").is_none().then_some(ToldBy::Name)
    }

    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        path.expect_no_series("NRRD")?;
        let image = parse(&path.file, &raw_image::start_of(&path.file)?)?;
        let stored = raw_image::read(&path.file, &image, limits)?;
        Scan::assemble(path.file.clone(), stored, limits.content)
    }

    fn files(&self, path: &ScanPath) -> Vec<PathBuf> {
        let image = raw_image::start_of(&path.file).and_then(|start| parse(&path.file, &start));
        image.map_or_else(|_| vec![path.file.clone()], |image| raw_image::files_of(&path.file, &image))
    }

    fn estimate(&self, path: &ScanPath) -> Option<usize> {
        let image = parse(&path.file, &raw_image::start_of(&path.file).ok()?).ok()?;
        raw_image::memory_of(&path.file, &image)
    }
}

/// The fields by their names in small letters, and where the header ends.
fn fields(path: &Path, start: &[u8]) -> Result<(BTreeMap<String, String>, usize), VolumeError> {
    let version = start.get(..8).filter(|m| m.starts_with(b"NRRD000") && (b'1'..=b'5').contains(&m[7]));
    if version.is_none() {
        let todo = "export the scan again, as NRRD or NIfTI-1";
        return refuse(path, "no NRRD header of version 1 to 5", "NRRD0001 to NRRD0005", todo);
    }
    let mut fields = BTreeMap::new();
    let mut at = 0;
    loop {
        let Some(length) = start[at..].iter().position(|b| *b == b'\n') else {
            // A detached header may end without an empty line.
            return Ok((fields, start.len()));
        };
        let line = start[at..at + length].trim_ascii_end();
        at += length + 1;
        if line.is_empty() {
            return Ok((fields, at));
        }
        let text = String::from_utf8_lossy(line);
        // `key:=value` is free text.
        if text.starts_with('#') || text.contains(":=") {
            continue;
        }
        if let Some((name, value)) = text.split_once(": ") {
            fields.insert(name.trim().to_lowercase().replace(' ', ""), value.trim().to_owned());
        }
    }
}

fn parse(path: &Path, start: &[u8]) -> Result<RawImage, VolumeError> {
    let (fields, end) = fields(path, start)?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let mut warnings: Vec<String> = name_warning(path, &EXTENSIONS, "NRRD").into_iter().collect();
    let shape = shape(path, field("dimension"), field("sizes"), field("kinds"))?;
    let kind = kind(path, field("type"))?;
    let packing = match field("encoding").map(str::to_lowercase).as_deref() {
        Some("raw") => Packing::Plain,
        Some("gzip" | "gz") => Packing::Gzip,
        other => {
            let known = ["ascii", "text", "txt", "hex", "bzip2", "bz2"];
            let name = other.filter(|e| known.contains(e)).unwrap_or("one that is not known");
            let todo = "save the scan raw or gzipped, for example with `unu save -e gzip`";
            return refuse(path, format!("NRRD with the encoding {name}"), "raw or gzip", todo);
        }
    };
    let big = match (field("endian").map(str::to_lowercase).as_deref(), kind.size()) {
        (Some("little"), _) | (None, 1) => false,
        (Some("big"), _) => true,
        _ => return refuse(path, "no byte order", "endian: little, or big", DAMAGED),
    };
    let affine = affine(path, &fields, &mut warnings)?;
    let skip = |name: &str| field(name).map_or(Some(0), |v| v.parse::<i64>().ok());
    let skip = match (skip("lineskip"), skip("byteskip")) {
        (Some(0), Some(-1)) if packing == Packing::Plain => Skip::FromEnd,
        (Some(lines @ 0..=1_000_000), Some(bytes @ 0..)) => {
            Skip::Forward { lines: lines as usize, bytes: bytes as u64 }
        }
        _ => return refuse(path, "a line or byte skip that cannot be", "0 or more", DAMAGED),
    };
    let data = match field("datafile") {
        Some(named) => DataFile::Beside(beside(path, named)?),
        None => DataFile::Here(end),
    };
    let numbers = Numbers { kind, big, slope: 1.0, intercept: 0.0 };
    Ok(RawImage { shape, affine, numbers, data, packing, skip, packed_bytes: None, modality: None, warnings })
}

fn shape(
    path: &Path,
    dimension: Option<&str>,
    sizes: Option<&str>,
    kinds: Option<&str>,
) -> Result<[usize; 3], VolumeError> {
    let sizes: Option<Vec<usize>> =
        sizes.and_then(|s| s.split_whitespace().map(|word| word.parse().ok()).collect());
    let (Some(sizes), Some(axes)) = (sizes, dimension.and_then(|d| d.parse::<usize>().ok())) else {
        return refuse(path, "NRRD without dimension or sizes", "dimension: 3, and three sizes", DAMAGED);
    };
    if axes != sizes.len() {
        return refuse(
            path,
            format!("{axes} axes and {} sizes", sizes.len()),
            "as many sizes as axes",
            DAMAGED,
        );
    }
    if let Some(shape) = triple(&sizes) {
        return Ok(shape);
    }
    let colour = kinds.is_some_and(|k| k.to_lowercase().contains("color"));
    let (what, todo) = match (axes, colour) {
        (4, true) => ("colour voxels", "give the scan itself, not a rendering of it"),
        (4, false) => ("several volumes or a vector per voxel", "choose one volume and save it by itself"),
        _ => ("no volume", "give a file of one 3D scan"),
    };
    refuse(path, format!("NRRD of {axes} axes, {sizes:?}: {what}"), "one 3D volume", todo)
}

fn kind(path: &Path, name: Option<&str>) -> Result<NumberType, VolumeError> {
    Ok(match name.map(str::to_lowercase).as_deref() {
        Some("signed char" | "int8" | "int8_t") => NumberType::I8,
        Some("uchar" | "unsigned char" | "uint8" | "uint8_t") => NumberType::U8,
        Some("short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t") => {
            NumberType::I16
        }
        Some("ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t") => NumberType::U16,
        Some("int" | "signed int" | "int32" | "int32_t") => NumberType::I32,
        Some("uint" | "unsigned int" | "uint32" | "uint32_t") => NumberType::U32,
        Some(
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t",
        ) => NumberType::I64,
        Some("ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t") => {
            NumberType::U64
        }
        Some("float") => NumberType::F32,
        Some("double") => NumberType::F64,
        Some("block") => {
            return refuse(path, "NRRD of blocks", "one number per voxel", "save the scan as numbers");
        }
        _ => return refuse(path, "NRRD of a type that is not known", "one number per voxel", DAMAGED),
    })
}

/// From `space`, its directions and origin; from `spacings` where there are none.
fn affine(
    path: &Path,
    fields: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Affine, VolumeError> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let signs = match field("space").map(|s| s.to_lowercase().replace('_', "-")).as_deref() {
        Some("right-anterior-superior" | "ras") => [1.0; 3],
        Some("left-anterior-superior" | "las") => [-1.0, 1.0, 1.0],
        Some("left-posterior-superior" | "lps") => LPS,
        None => {
            warnings.push(
                "the header says no space of the patient: its axes are taken to run to the left, to posterior and to superior, \
                 as ITK takes them; check which side is left"
                    .into(),
            );
            LPS
        }
        Some(_) => {
            let todo = "save it in a space of the patient, for example by 3D Slicer";
            return refuse(path, "NRRD in a space that is not the patient's", "RAS, LAS or LPS", todo);
        }
    };
    let vectors = |text: &str| -> Option<Vec<[f64; 3]>> {
        text.split_inclusive(')').filter(|part| !part.trim().is_empty()).map(vector).collect()
    };
    let steps = match field("spacedirections") {
        Some(text) => match vectors(text).as_deref().and_then(triple) {
            Some(steps) => steps,
            None => {
                return refuse(
                    path,
                    "space directions that are not three vectors",
                    "(x,y,z) for each axis",
                    DAMAGED,
                );
            }
        },
        None => {
            let spacing = field("spacings").and_then(numbers_in).as_deref().and_then(triple);
            let Some(spacing) = spacing.filter(|s: &[f64; 3]| s.iter().all(|v| v.is_finite())) else {
                return refuse(
                    path,
                    "neither space directions nor spacings",
                    "the steps between voxels",
                    DAMAGED,
                );
            };
            [0, 1, 2].map(|axis| {
                let mut step = [0.0; 3];
                step[axis] = spacing[axis];
                step
            })
        }
    };
    let origin = match field("spaceorigin").map(vector) {
        Some(Some(origin)) => origin,
        Some(None) => return refuse(path, "a space origin that is no vector", "(x,y,z)", DAMAGED),
        None => [0.0; 3],
    };
    let scale = scale(path, field("spaceunits"))?;
    if scale != 1.0 {
        warnings.push("the header's unit is not the millimetre: positions converted to mm".into());
    }
    let scaled = |v: [f64; 3]| v.map(|x| x * scale);
    Ok(affine_of(steps.map(scaled), scaled(origin), signs))
}

fn vector(text: &str) -> Option<[f64; 3]> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values: Option<Vec<f64>> = inner.split(',').map(|word| word.trim().parse().ok()).collect();
    triple(&values?)
}

/// Millimetres of the unit, the same along each axis.
fn scale(path: &Path, units: Option<&str>) -> Result<f64, VolumeError> {
    let Some(units) = units else { return Ok(1.0) };
    let scale = |unit: &str| match unit {
        "mm" | "millimeter" | "millimetre" | "" => Some(1.0),
        "cm" => Some(10.0),
        "m" | "meter" | "metre" => Some(1000.0),
        "um" | "µm" | "μm" | "micron" => Some(0.001),
        _ => None,
    };
    let all: Option<Vec<f64>> =
        units.split('"').map(str::trim).filter(|u| !u.is_empty()).map(scale).collect();
    match all.as_deref() {
        Some([]) => Ok(1.0),
        Some([first, rest @ ..]) if rest.iter().all(|s| s == first) => Ok(*first),
        _ => refuse(path, "space units that are not one unit of length", "mm along each axis", DAMAGED),
    }
}
