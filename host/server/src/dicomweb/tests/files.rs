//! Small DICOM files, element by element: explicit VR little endian.

use anymc3d_dicom::write::file_meta;

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const SR: &str = "1.2.840.10008.5.1.4.1.1.88.34";
pub(crate) const MAP: &str = "1.2.840.10008.5.1.4.1.1.30";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn element(out: &mut Vec<u8>, tag: u32, vr: &[u8; 2], value: &[u8]) {
    out.extend(((tag >> 16) as u16).to_le_bytes());
    out.extend((tag as u16).to_le_bytes());
    out.extend(vr);
    let padded = value.len().next_multiple_of(2);
    if matches!(vr, b"OW" | b"OB") {
        out.extend([0, 0]);
        out.extend((padded as u32).to_le_bytes());
    } else {
        out.extend((padded as u16).to_le_bytes());
    }
    out.extend(value);
    if padded > value.len() {
        out.push(if vr == b"UI" { 0 } else { b' ' });
    }
}

/// What tells an instance.
#[derive(Clone)]
pub(crate) struct File<'a> {
    pub class: &'a str,
    pub instance: &'a str,
    pub study: &'a str,
    pub series: &'a str,
    pub modality: &'a str,
    pub description: &'a str,
    pub manufacturer: &'a str,
    pub pixels: usize,
}

impl File<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = file_meta(self.class, self.instance, EXPLICIT).unwrap();
        let texts: [(u32, &[u8; 2], &str); 13] = [
            (0x0008_0016, b"UI", self.class),
            (0x0008_0018, b"UI", self.instance),
            (0x0008_0060, b"CS", self.modality),
            (0x0008_0070, b"LO", self.manufacturer),
            (0x0008_103E, b"LO", self.description),
            (0x0010_0010, b"PN", "DOE^JANE"),
            (0x0010_0020, b"LO", "PATIENT-4711"),
            (0x0018_0015, b"CS", "CHEST"),
            (0x0018_0050, b"DS", "1.5"),
            (0x0018_1030, b"LO", "Routine"),
            (0x0020_000D, b"UI", self.study),
            (0x0020_000E, b"UI", self.series),
            (0x0020_0032, b"DS", "0\\0\\0"),
        ];
        for (tag, vr, text) in texts {
            element(&mut out, tag, vr, text.as_bytes());
        }
        if self.pixels > 0 {
            let (rows, columns) = (self.pixels as u16, self.pixels as u16);
            element(&mut out, 0x0028_0002, b"US", &1_u16.to_le_bytes());
            element(&mut out, 0x0028_0004, b"CS", b"MONOCHROME2");
            element(&mut out, 0x0028_0010, b"US", &rows.to_le_bytes());
            element(&mut out, 0x0028_0011, b"US", &columns.to_le_bytes());
            for (tag, value) in
                [(0x0028_0100, 16_u16), (0x0028_0101, 16), (0x0028_0102, 15), (0x0028_0103, 0)]
            {
                element(&mut out, tag, b"US", &value.to_le_bytes());
            }
            let pixels: Vec<u8> = (0..self.pixels * self.pixels * 2).map(|i| (i * 7) as u8).collect();
            element(&mut out, 0x7FE0_0010, b"OW", &pixels);
        }
        out
    }
}

/// A slice of a CT series.
pub(crate) fn slice<'a>(study: &'a str, series: &'a str, instance: &'a str) -> File<'a> {
    File {
        class: CT,
        instance,
        study,
        series,
        modality: "CT",
        description: "Thorax",
        manufacturer: "Scanners",
        pixels: 16,
    }
}

/// One of our results.
pub(crate) fn result<'a>(study: &'a str, class: &'a str, instance: &'a str, series: &'a str) -> File<'a> {
    let (modality, description, pixels) = match class {
        SR => ("SR", "Research only - findings", 0),
        _ => ("OT", "Research only - Heatmap, lung_nodule 0.1.0", 64),
    };
    File { class, instance, study, series, modality, description, manufacturer: "AnyMC3D", pixels }
}
