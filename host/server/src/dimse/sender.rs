//! C-STORE SCU: a study's results to an application entity.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use dicom_ul::association::client::{ClientAssociation, ClientAssociationOptions};
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu, PresentationContextResultReason};

use super::EXPLICIT_LITTLE;
use super::command::{C_STORE_RSP, Command};
use crate::dicomweb::{ArchiveError, ObjectState, Peer, SentObject, StudyRecord};

const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, ArchiveError>;

/// Sends what was not confirmed yet, in one association. An object that was begun and not confirmed goes again under its
/// UID: an archive keeps the first one.
///
/// # Errors
/// [`ArchiveError`]; the record says how far it came.
pub(crate) fn send_all(
    peer: &Peer,
    outbox: &Path,
    record: &mut StudyRecord,
    save: &mut dyn FnMut(&mut StudyRecord) -> Result<()>,
) -> Result<()> {
    let open = |o: &SentObject| matches!(o.state, ObjectState::Waiting | ObjectState::Begun);
    let waiting: Vec<usize> = (0..record.objects.len()).filter(|&at| open(&record.objects[at])).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let mut association = associate(peer, waiting.iter().map(|&at| record.objects[at].sop_class.as_str()))?;
    let mut again = None;
    for (message, &at) in (1..).zip(&waiting) {
        record.objects[at].state = ObjectState::Begun;
        save(record)?;
        let object = &record.objects[at];
        let name = object.file.splitn(3, '-').last().unwrap_or("an object").to_owned();
        let context = association.presentation_contexts().iter().find(|c| {
            c.abstract_syntax == object.sop_class && c.reason == PresentationContextResultReason::Acceptance
        });
        let Some(context) = context.map(|c| c.id) else {
            record.objects[at].state = ObjectState::Refused;
            record.note(format!("{name}: {} does not take its SOP class", peer.ae_title));
            save(record)?;
            continue;
        };
        match store(&mut association, context, message, object, outbox)? {
            // B000 and so on are warnings: it is stored.
            0 | 0xB000..=0xBFFF | 0x0111 => record.objects[at].state = ObjectState::Stored,
            // Out of resources, processing failure.
            status @ (0xA700..=0xA7FF | 0x0110) => {
                again = Some(ArchiveError::Interrupted(format!(
                    "{name}: {} answered {status:04X}",
                    peer.ae_title
                )));
            }
            status => {
                record.objects[at].state = ObjectState::Refused;
                record.note(format!("{name} was refused by {} (status {status:04X})", peer.ae_title));
            }
        }
        save(record)?;
    }
    // What was confirmed is confirmed, however the association ends.
    let _ = association.release();
    again.map_or(Ok(()), Err)
}

fn associate<'a>(
    peer: &Peer,
    classes: impl Iterator<Item = &'a str>,
) -> Result<ClientAssociation<TcpStream>> {
    let mut classes: Vec<&str> = classes.collect();
    classes.sort_unstable();
    classes.dedup();
    let away = |reason: &str| ArchiveError::Unavailable {
        reason: format!("{}: {reason}", peer.ae_title),
        wait: None,
    };
    let address = peer.address.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| away("its address is not known"))?;
    let mut options = ClientAssociationOptions::new()
        .calling_ae_title(peer.calling_ae_title.clone())
        .called_ae_title(peer.ae_title.clone())
        .connection_timeout(CONNECT)
        .read_timeout(SILENCE)
        .write_timeout(SILENCE);
    for class in classes {
        options = options.with_presentation_context(class.to_owned(), vec![EXPLICIT_LITTLE.to_owned()]);
    }
    use dicom_ul::association::Error;
    options.establish(address).map_err(|e| match e {
        // That nothing is accepted is known for each object.
        Error::NoAcceptedPresentationContexts { .. } => {
            ArchiveError::Refused(format!("{} takes none of the objects", peer.ae_title))
        }
        Error::Rejected { .. } => away("rejects the association; does it know our AE title?"),
        _ => away("no association"),
    })
}

fn store(
    association: &mut ClientAssociation<TcpStream>,
    context: u8,
    message: u16,
    object: &SentObject,
    outbox: &Path,
) -> Result<u16> {
    let disk = |e: io::Error| ArchiveError::Disk(format!("results cannot be read ({e})"));
    let cut = || ArchiveError::Interrupted("the association ended in the middle".into());
    let mut file = data_set(&outbox.join(&object.file)).map_err(disk)?;
    let command = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: Command::store(message, &object.sop_class, &object.sop_instance).write(),
    };
    association.send(&Pdu::PData { data: vec![command] }).map_err(|_| cut())?;
    {
        let mut writer = association.send_pdata(context);
        let mut chunk = vec![0; 64 << 10];
        loop {
            let n = file.read(&mut chunk).map_err(disk)?;
            if n == 0 {
                break;
            }
            writer.write_all(&chunk[..n]).map_err(|_| cut())?;
        }
        writer.finish().map_err(|_| cut())?;
    }
    let mut bytes = Vec::new();
    loop {
        let Ok(Pdu::PData { data }) = association.receive() else { return Err(cut()) };
        for value in data {
            if value.value_type != PDataValueType::Command {
                return Err(cut());
            }
            bytes.extend(&value.data);
            if !value.is_last && bytes.len() < 64 << 10 {
                continue;
            }
            let answer = Command::read(&bytes).ok_or_else(cut)?;
            return match (answer.field(), answer.answered_message(), answer.status()) {
                (Some(C_STORE_RSP), Some(to), Some(status)) if to == message => Ok(status),
                _ => Err(cut()),
            };
        }
    }
}

/// A Part 10 file at its data set.
fn data_set(path: &Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let mut start = [0; 144];
    file.read_exact(&mut start)?;
    let group = u32::from_le_bytes([start[140], start[141], start[142], start[143]]);
    file.seek(SeekFrom::Start(144 + u64::from(group)))?;
    Ok(file)
}
