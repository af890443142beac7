//! Messages between a session and the process that its plugins run in: length, then one JSON object.
//!
//! Both ends are the same binary, so the messages may change with any version.

use crate::check::Finding;
use crate::engine::{Case, Holdings, Passes, Stage};
use crate::output::WriterSpec;
use crate::run::failure::CaseFailure;
use crate::run::identity::{ReferenceSummary, TaskIdentity};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

/// Longest message: a result with the weights of some thousand slices has a few hundred kB.
const LONGEST: usize = 64 << 20;

/// What the process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// First: be an engine with these plugins.
    Open(OpenRequest),
    /// Then, as often as wanted: answer a case.
    Case {
        case: Case,
        /// Indices of the plugins whose answers are wanted.
        tasks: Vec<usize>,
        writers: Vec<WriterSpec>,
        /// Where files go: a folder per plugin, named by its index.
        folder: Option<PathBuf>,
    },
    /// Instead of an engine: try a plugin.
    Probe(ProbeRequest),
}

/// An engine as the command line describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The plugins that are to be opened.
    pub plugins: Vec<ChosenLibrary>,
    pub weights: Vec<PathBuf>,
    /// As `--device` says it.
    pub device: String,
    /// Bytes of a device's own memory, where `--max-memory` was given.
    pub device_memory: Option<usize>,
    /// As `--precision` says it.
    pub precision: String,
    pub threads: Option<u16>,
    pub segmentation: bool,
    /// `--merge`.
    pub merge: Option<usize>,
    pub max_memory: Option<u64>,
    /// `--micro-ct`.
    pub micro_ct: bool,
    /// Whether results name the machine, and the account.
    pub record: (bool, bool),
}

/// A library as it was chosen: whatever else lies in its file by the time it is opened is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChosenLibrary {
    /// Index of the plugin.
    pub task: usize,
    /// Where it lies.
    pub path: PathBuf,
    /// Digest of what was chosen.
    pub sha256: String,
    /// Name or folder of the backbone that it runs on.
    pub backbone: String,
}

/// A plugin that is to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeRequest {
    pub library: PathBuf,
    pub weights: Option<PathBuf>,
    pub backbone: Option<String>,
    /// Names of the checks, in their order.
    pub checks: Vec<String>,
    pub max_memory: Option<u64>,
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// A backbone is being opened.
    Backbone(String),
    /// A plugin is being opened: from here on its code may run.
    TaskOpening(usize),
    /// It is ready, and this is what it is.
    Opened { task: usize, identity: TaskIdentity, reference: Option<ReferenceSummary> },
    /// It is refused.
    Refused { task: usize, error: String },
    /// Everything is open, and this is where memory went: one entry per backbone.
    Ready(Vec<Holdings>),
    /// Nothing can be done at all.
    Fatal(String),
    /// A plugin's turn has come to this stage.
    At { task: usize, stage: Stage },
    /// Its answer; files are written.
    Answered(Answered),
    /// It has none.
    Failed { task: usize, failure: CaseFailure },
    /// Every plugin that was asked has had its turn, in so many passes through the backbones.
    CaseDone(Passes),
    /// A check of a probe begins.
    Trying(String),
    /// What it found.
    Found(Finding),
    /// All checks have been tried.
    ProbeDone,
}

/// An answer as text, so that no number changes on the way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    pub task: usize,
    /// `anymc3d/result/1` as one line.
    pub json: String,
}

/// Sends a message.
///
/// # Errors
/// When the other side is gone.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= LONGEST);
    let length = length.ok_or_else(|| io::Error::other(format!("a message of {} bytes", body.len())))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    to.write_all(&frame)?;
    to.flush()
}

/// Waits for the next message; `None` if the other side has closed the connection.
///
/// # Errors
/// When the data ends inside a message, or is no message.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other("not a message"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    serde_json::from_slice(&body).map(Some).map_err(io::Error::other)
}

/// Takes a complete message off the front of the received bytes.
///
/// # Errors
/// One line, when the bytes are no message.
pub fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, String> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > LONGEST {
        return Err(format!("announced a message of {length} bytes"));
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let message = serde_json::from_slice(body).map_err(|e| format!("sent what is no message ({e})"));
    buffer.drain(..4 + length);
    message.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut sent = Vec::new();
        send(&mut sent, &Event::TaskOpening(3)).unwrap();
        send(&mut sent, &Event::CaseDone(Passes { own: 2, shared: 1 })).unwrap();
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for byte in &sent {
            buffer.push(*byte);
            while let Some(said) = take::<Event>(&mut buffer).unwrap() {
                found.push(format!("{said:?}"));
            }
        }
        assert_eq!(
            (found.join(" ").as_str(), buffer.len()),
            ("TaskOpening(3) CaseDone(Passes { own: 2, shared: 1 })", 0)
        );
        let mut reader = &sent[..];
        assert!(matches!(receive(&mut reader).unwrap(), Some(Event::TaskOpening(3))));
        assert!(matches!(receive(&mut reader).unwrap(), Some(Event::CaseDone(_))));
        assert!(receive::<Event>(&mut reader).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error_and_not_an_allocation() {
        assert!(take::<Event>(&mut vec![0xff; 8]).is_err());
        assert!(receive::<Event>(&mut [0xff; 8].as_slice()).is_err());
        assert!(take::<Event>(&mut b"\x02\0\0\0{}".to_vec()).is_err());
    }
}
