//! TensorBoard's event file, so that a run can be watched with what researchers have open anyway.
//!
//! A file is a sequence of TFRecords: length (u64), its masked CRC-32C, the bytes, their masked CRC-32C; the bytes are
//! an `Event` message (tensorflow/core/util/event.proto). Of it only scalars are written, which is few enough fields to
//! spare a protobuf compiler.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file that is being written.
pub struct Events(File);

impl Events {
    /// A new file in a run's folder; a run that goes on writes a further one. With `resumed_at` TensorBoard drops what it
    /// has of this step and later ones: an interrupted run may have told them, and they come again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path, resumed_at: Option<usize>) -> std::io::Result<Self> {
        let now = now();
        let mut number = 0;
        let file = loop {
            let name = format!("events.out.tfevents.{:.0}.{number}.anymc3d", now.floor());
            match OpenOptions::new().append(true).create_new(true).open(folder.join(name)) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                other => break other?,
            }
        };
        let mut events = Self(file);
        let mut message = Vec::new();
        double(&mut message, 1, now);
        bytes(&mut message, 3, b"brain.Event:2");
        events.record(&message)?;
        if let Some(step) = resumed_at {
            // SessionLog { status: START }
            let mut session = Vec::new();
            key(&mut session, 1, 0);
            varint(&mut session, 1);
            let mut message = Vec::new();
            double(&mut message, 1, now);
            key(&mut message, 2, 0);
            varint(&mut message, step as u64);
            bytes(&mut message, 7, &session);
            events.record(&message)?;
        }
        Ok(events)
    }

    /// Named values of one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> std::io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut one = Vec::new();
            bytes(&mut one, 1, tag.as_bytes());
            key(&mut one, 2, 5);
            one.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &one);
        }
        let mut message = Vec::new();
        double(&mut message, 1, now());
        key(&mut message, 2, 0);
        varint(&mut message, step as u64);
        bytes(&mut message, 5, &summary);
        self.record(&message)
    }

    fn record(&mut self, message: &[u8]) -> std::io::Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(message);
        record.extend(masked(message).to_le_bytes());
        self.0.write_all(&record)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Field number and wire type: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// CRC-32C (Castagnoli, reflected), bit by bit: an event has some hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 },
        )
    })
}

/// TFRecord's mask: a checksum of data that holds checksums would be a weak one.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
    }

    #[test]
    fn every_record_is_framed_and_a_further_file_does_not_overwrite() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), None).unwrap();
        events.scalars(300, &[("loss/train", 0.5), ("auroc/validation", 0.75)]).unwrap();
        Events::create(folder.path(), None).unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.path()).collect();
        assert_eq!(files.len(), 2);
        files.sort_by_key(|f| std::cmp::Reverse(std::fs::metadata(f).unwrap().len()));
        let data = std::fs::read(&files[0]).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
            let message = &data[at + 12..at + 12 + length];
            let sum = u32::from_le_bytes(data[at + 12 + length..at + 16 + length].try_into().unwrap());
            assert_eq!(sum, masked(message));
            records.push(message.to_vec());
            at += 16 + length;
        }
        assert_eq!(records.len(), 2);
        let text = String::from_utf8_lossy(&records[1]).into_owned();
        assert!(text.contains("loss/train") && text.contains("auroc/validation"));
        assert!(records[1].windows(3).any(|w| w == [2 << 3, 0xAC, 0x02]), "step 300 as a varint");
    }

    #[test]
    fn a_run_that_goes_on_begins_with_a_session_start_of_its_first_step() {
        let folder = tempfile::tempdir().unwrap();
        Events::create(folder.path(), Some(4)).unwrap();
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let data = std::fs::read(file).unwrap();
        let first = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
        let second = &data[16 + first..];
        let length = u64::from_le_bytes(second[..8].try_into().unwrap()) as usize;
        // Event: step 4 in field 2, session_log (field 7) of two bytes: status (field 1) START (1).
        assert_eq!(second[12 + 9..12 + length], [2 << 3, 4, 7 << 3 | 2, 2, 1 << 3, 1]);
    }
}
