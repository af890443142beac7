//! MetaImage: a text header `Key = Value`, numbers after it (`.mha`) or in a file that it names (`.mhd`).
//!
//! Read as <https://itk.org/Wiki/ITK/MetaIO/Documentation> says: binary, plain or zlib, three axes, in LPS as ITK has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anymc3d_manifest::Modality;

use crate::scan::limits::ReadLimits;
use crate::scan::numbers::{NumberType, Numbers};
use crate::scan::raw_image::{
    self, DAMAGED, DataFile, LPS, Packing, RawImage, Skip, affine_of, beside, name_warning, numbers_in,
    refuse, triple,
};
use crate::scan::source::{ScanPath, Source, ToldBy};
use crate::scan::{Affine, Scan, VolumeError};

const EXTENSIONS: [&str; 2] = [".mha", ".mhd"];
/// The last key of a header.
const LAST: &str = "ElementDataFile";

/// MetaImage as a source of scans.
pub(crate) struct MetaImage;

impl Source for MetaImage {
    fn name(&self) -> &'static str {
        "MetaImage"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &EXTENSIONS
    }

    /// There is no magic: a header begins with one of these keys.
    fn identify(&self, path: &ScanPath, start: &[u8]) -> Option<ToldBy> {
        let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
        let key = line.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if line.contains(&b'=') && matches!(key, b"ObjectType" | b"NDims" | b"ObjectSubType" | b"Comment") {
            return Some(ToldBy::Content);
        }
        name_warning(&path.file, &EXTENSIONS, "").is_none().then_some(ToldBy::Name)
    }

    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        path.expect_no_series("MetaImage")?;
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

/// The keys, and where the header ends: after the line of the last one.
fn keys(path: &Path, start: &[u8]) -> Result<(BTreeMap<String, String>, usize), VolumeError> {
    let mut keys = BTreeMap::new();
    let mut at = 0;
    while at < start.len() {
        let length = start[at..].iter().position(|b| *b == b'\n').unwrap_or(start.len() - at);
        let text = String::from_utf8_lossy(&start[at..at + length]).into_owned();
        at = (at + length + 1).min(start.len());
        let Some((key, value)) = text.split_once('=') else { continue };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        let last = key == LAST;
        keys.insert(key, value);
        if last {
            return Ok((keys, at));
        }
    }
    refuse(path, "no MetaImage header", "keys that end with ElementDataFile", "export the scan again")
}

fn parse(path: &Path, start: &[u8]) -> Result<RawImage, VolumeError> {
    let (keys, end) = keys(path, start)?;
    let any = |names: &[&str]| names.iter().find_map(|name| keys.get(*name)).map(String::as_str);
    let is_true = |names: &[&str]| any(names).is_some_and(|v| v.starts_with(['T', 't', '1']));
    let mut warnings: Vec<String> = name_warning(path, &EXTENSIONS, "MetaImage").into_iter().collect();
    let shape = shape(path, any(&["NDims"]), any(&["DimSize"]))?;
    if any(&["ElementNumberOfChannels"]).is_some_and(|n| n != "1") {
        return refuse(
            path,
            "MetaImage with several channels per voxel",
            "one number per voxel",
            "give the scan itself, not a rendering of it",
        );
    }
    if any(&["BinaryData"]).is_some() && !is_true(&["BinaryData"]) {
        return refuse(path, "MetaImage whose voxels are text", "binary voxels", "save the scan as binary");
    }
    for (name, neutral) in
        [("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)]
    {
        if any(&[name]).is_some_and(|v| v.parse() != Ok(neutral)) {
            let todo = "apply it and save the values: programs disagree on whether it counts";
            return refuse(path, "MetaImage with an intensity function", "values as they are stored", todo);
        }
    }
    let numbers = Numbers {
        kind: kind(path, any(&["ElementType"]))?,
        big: is_true(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]),
        slope: 1.0,
        intercept: 0.0,
    };
    let packing = if is_true(&["CompressedData"]) { Packing::Zlib } else { Packing::Plain };
    let packed_bytes = any(&["CompressedDataSize"]).filter(|_| packing == Packing::Zlib);
    let skip = match any(&["HeaderSize"]).map_or(Ok(0), str::parse::<i64>) {
        Ok(-1) => Skip::FromEnd,
        Ok(bytes @ 0..) => Skip::Forward { lines: 0, bytes: bytes as u64 },
        _ => return refuse(path, "a HeaderSize that cannot be", "a number of bytes, or -1", DAMAGED),
    };
    let data = match any(&[LAST]).unwrap_or_default() {
        here if here.eq_ignore_ascii_case("LOCAL") => DataFile::Here(end),
        named => DataFile::Beside(beside(path, named)?),
    };
    if packing == Packing::Zlib && skip != (Skip::Forward { lines: 0, bytes: 0 }) {
        return refuse(path, "compressed voxels behind a header of their own", "HeaderSize = 0", DAMAGED);
    }
    Ok(RawImage {
        shape,
        affine: affine(path, &any, &mut warnings)?,
        numbers,
        data,
        packing,
        skip,
        packed_bytes: packed_bytes.and_then(|n| n.parse().ok()).filter(|n| *n > 0),
        modality: match any(&["Modality"]) {
            Some("MET_MOD_CT") => Some(Modality::CT),
            Some("MET_MOD_MR") => Some(Modality::MR),
            Some("MET_MOD_PET") => Some(Modality::PT),
            _ => None,
        },
        warnings,
    })
}

fn shape(path: &Path, axes: Option<&str>, sizes: Option<&str>) -> Result<[usize; 3], VolumeError> {
    let sizes: Option<Vec<usize>> =
        sizes.and_then(|s| s.split_whitespace().map(|word| word.parse().ok()).collect());
    let (Some(sizes), Some(axes)) = (sizes, axes.and_then(|n| n.parse::<usize>().ok())) else {
        return refuse(path, "MetaImage without NDims or DimSize", "NDims = 3, and three sizes", DAMAGED);
    };
    match triple(&sizes).filter(|_| axes == 3) {
        Some(shape) => Ok(shape),
        None => refuse(
            path,
            format!("MetaImage of {axes} axes, {sizes:?}"),
            "one 3D volume",
            "choose one volume and save it by itself",
        ),
    }
}

fn kind(path: &Path, name: Option<&str>) -> Result<NumberType, VolumeError> {
    Ok(match name {
        Some("MET_CHAR" | "MET_ASCII_CHAR") => NumberType::I8,
        Some("MET_UCHAR") => NumberType::U8,
        Some("MET_SHORT") => NumberType::I16,
        Some("MET_USHORT") => NumberType::U16,
        // Of four bytes, whatever the machine's is.
        Some("MET_INT" | "MET_LONG") => NumberType::I32,
        Some("MET_UINT" | "MET_ULONG") => NumberType::U32,
        Some("MET_LONG_LONG") => NumberType::I64,
        Some("MET_ULONG_LONG") => NumberType::U64,
        Some("MET_FLOAT") => NumberType::F32,
        Some("MET_DOUBLE") => NumberType::F64,
        Some(array) if array.ends_with("_ARRAY") => {
            return refuse(
                path,
                "MetaImage of arrays",
                "one number per voxel",
                "save one component by itself",
            );
        }
        _ => return refuse(path, "MetaImage of a type that is not known", "one number per voxel", DAMAGED),
    })
}

/// The first three numbers of the matrix are the direction of the first axis.
fn affine<'a>(
    path: &Path,
    any: &impl Fn(&[&str]) -> Option<&'a str>,
    warnings: &mut Vec<String>,
) -> Result<Affine, VolumeError> {
    let three = |names: &[&str], default: Option<[f64; 3]>| match any(names) {
        None => default,
        Some(text) => numbers_in(text).as_deref().and_then(triple),
    };
    let spacing = three(&["ElementSpacing", "ElementSize"], None);
    let origin = three(&["Offset", "Position", "Origin"], Some([0.0; 3]));
    let (Some(spacing), Some(origin)) = (spacing, origin) else {
        return refuse(
            path,
            "no three numbers of ElementSpacing or Offset",
            "millimetres along each axis",
            DAMAGED,
        );
    };
    let identity = || vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let told = any(&["TransformMatrix", "Rotation", "Orientation"]);
    let matrix = told.map_or_else(|| Some(identity()), numbers_in).filter(|m| m.len() == 9);
    let Some(matrix) = matrix else {
        return refuse(
            path,
            "a TransformMatrix that is not nine numbers",
            "a direction for each axis",
            DAMAGED,
        );
    };
    if told.is_none() {
        warnings.push(
            "the header says no directions: its axes are taken to run to the left, to posterior and to superior, as ITK takes \
             them; check which side is left"
                .into(),
        );
    }
    let scale = match any(&["DistanceUnits"]) {
        None | Some("mm" | "?" | "") => 1.0,
        Some("cm") => 10.0,
        Some("um") => 0.001,
        Some(_) => return refuse(path, "DistanceUnits that are not known", "mm", DAMAGED),
    };
    if scale != 1.0 {
        warnings.push("the header's unit is not the millimetre: positions converted to mm".into());
    }
    let steps = [0, 1, 2].map(|axis| {
        let direction = &matrix[3 * axis..3 * axis + 3];
        [0, 1, 2].map(|r| direction[r] * spacing[axis] * scale)
    });
    Ok(affine_of(steps, origin.map(|v| v * scale), LPS))
}
