//! Files for tests: small ones written element by element, real ones beside the tests, larger ones elsewhere.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// The real files that are committed.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A folder of larger data, in `$ANYMC3D_DATA`; `None` says on stderr that the test is skipped.
pub fn data(folder: &str) -> Option<PathBuf> {
    let near = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let base = std::env::var_os("ANYMC3D_DATA").map_or_else(near, PathBuf::from);
    let path = base.join(folder);
    if !path.exists() {
        eprintln!("SKIPPED: {} is absent; set ANYMC3D_DATA to the folder with real scans", path.display());
        return None;
    }
    Some(path)
}

/// A data set in explicit VR little endian, element by element.
#[derive(Clone, Default)]
pub struct DataSet {
    elements: Vec<(u32, [u8; 2], Vec<u8>)>,
}

impl DataSet {
    /// Sets an element, replacing one of the same tag.
    pub fn set(mut self, tag: u32, vr: &str, value: impl AsRef<[u8]>) -> Self {
        let mut value = value.as_ref().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" || vr == "OB" { 0 } else { b' ' });
        }
        self.elements.retain(|e| e.0 != tag);
        let vr = vr.as_bytes();
        self.elements.push((tag, [vr[0], vr[1]], value));
        self.elements.sort_by_key(|e| e.0);
        self
    }

    pub fn without(mut self, tag: u32) -> Self {
        self.elements.retain(|e| e.0 != tag);
        self
    }

    pub fn u16(self, tag: u32, value: u16) -> Self {
        self.set(tag, "US", value.to_le_bytes())
    }

    /// A sequence with items of defined length.
    pub fn items(self, tag: u32, items: &[DataSet]) -> Self {
        let mut value = Vec::new();
        for item in items {
            let body = item.explicit();
            value.extend([0xFE, 0xFF, 0x00, 0xE0]);
            value.extend((body.len() as u32).to_le_bytes());
            value.extend(body);
        }
        self.set(tag, "SQ", value)
    }

    pub fn explicit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, vr, value) in &self.elements {
            out.extend(((tag >> 16) as u16).to_le_bytes());
            out.extend((*tag as u16).to_le_bytes());
            out.extend(vr);
            if [b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT"].contains(&vr) {
                out.extend([0, 0]);
                out.extend((value.len() as u32).to_le_bytes());
            } else {
                out.extend((value.len() as u16).to_le_bytes());
            }
            out.extend(value);
        }
        out
    }

    /// The same without representations. Sequences must not be in it: their items are explicit.
    pub fn implicit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, _, value) in &self.elements {
            out.extend(((tag >> 16) as u16).to_le_bytes());
            out.extend((*tag as u16).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(value);
        }
        out
    }

    /// A whole file: preamble, meta group, data set.
    pub fn file(&self) -> Vec<u8> {
        part10("1.2.840.10008.1.2.1", &self.explicit())
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, self.file()).unwrap();
    }
}

/// Preamble and meta group before a data set.
pub fn part10(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let meta = DataSet::default().set(0x0002_0010, "UI", transfer_syntax).explicit();
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    out.extend(meta);
    out.extend(data_set);
    out
}

pub const CT_CLASS: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const MR_CLASS: &str = "1.2.840.10008.5.1.4.1.1.4";

/// An axial CT slice of 4 columns × 3 rows; stored value = 100 × `n` + pixel, rescale −1024.
pub fn ct_slice(n: u16, z: f64) -> DataSet {
    let pixels: Vec<u8> = (0..12_u16).flat_map(|i| (100 * n + i).to_le_bytes()).collect();
    DataSet::default()
        .set(0x0008_0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
        .set(0x0008_0016, "UI", CT_CLASS)
        .set(0x0008_0018, "UI", format!("2.25.1.{n}.{}", (z * 100.0).abs() as u32))
        .set(0x0008_0060, "CS", "CT")
        .set(0x0020_000D, "UI", "2.25.100")
        .set(0x0020_000E, "UI", "2.25.200")
        .set(0x0020_0011, "IS", "3")
        .set(0x0020_0013, "IS", n.to_string())
        .set(0x0020_0032, "DS", format!("-10\\-20\\{z}"))
        .set(0x0020_0037, "DS", "1\\0\\0\\0\\1\\0")
        .u16(0x0028_0002, 1)
        .set(0x0028_0004, "CS", "MONOCHROME2")
        .u16(0x0028_0010, 3)
        .u16(0x0028_0011, 4)
        .set(0x0028_0030, "DS", "0.5\\0.7")
        .u16(0x0028_0100, 16)
        .u16(0x0028_0101, 16)
        .u16(0x0028_0102, 15)
        .u16(0x0028_0103, 0)
        .set(0x0028_1052, "DS", "-1024")
        .set(0x0028_1053, "DS", "1")
        .set(0x7FE0_0010, "OW", pixels)
}

/// A folder with these files, named in a scrambled order.
pub fn folder(files: &[DataSet]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, file) in files.iter().enumerate() {
        file.write(&folder.path().join(format!("{:02x}{i}", (i * 37 + 11) % 256)));
    }
    folder
}
