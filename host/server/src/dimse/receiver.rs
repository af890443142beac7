//! C-STORE and C-ECHO SCP: who may call is named, and associations, bytes and time have bounds.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anymc3d_dicom::write::file_meta;
use dicom_ul::association::ServerAssociation;
use dicom_ul::association::server::{AccessControl, ServerAssociationOptions};
use dicom_ul::pdu::{
    AssociationRJServiceUserReason, PDataValue, PDataValueType, Pdu, PresentationContextResultReason,
    UserIdentity,
};
use tempfile::NamedTempFile;

use super::command::{C_ECHO_RQ, C_STORE_RQ, Command};
use super::incoming::{Incoming, NOT_UNDERSTOOD, NotKept, OUT_OF_RESOURCES};
use crate::dicomweb::{ReceiverSettings, study_log};

const VERIFICATION: &str = "1.2.840.10008.1.1";

/// What is taken: images that may be slices of a volume. Reports, masks, maps and pictures are refused when the
/// association is made, our own among them.
const IMAGE_CLASSES: [&str; 10] = [
    "1.2.840.10008.5.1.4.1.1.2",     // CT
    "1.2.840.10008.5.1.4.1.1.2.1",   // enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",   // legacy converted enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",     // MR
    "1.2.840.10008.5.1.4.1.1.4.1",   // enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",   // legacy converted enhanced MR
    "1.2.840.10008.5.1.4.1.1.128",   // PET
    "1.2.840.10008.5.1.4.1.1.128.1", // legacy converted enhanced PET
    "1.2.840.10008.5.1.4.1.1.130",   // enhanced PET
    "1.2.840.10008.5.1.4.1.1.20",    // NM
];

/// Kept as they come: uncompressed, RLE, and the JPEGs that the reader decodes.
const TRANSFER_SYNTAXES: [&str; 13] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.110",
];

/// Bytes of a PDU, and of a command.
const MOST_PDU: u32 = 128 << 10;
const MOST_COMMAND: usize = 64 << 10;

/// Who may call.
struct Callers {
    allowed: Vec<String>,
}

impl AccessControl for Callers {
    fn check_access(
        &self,
        own: &str,
        calling: &str,
        called: &str,
        _: Option<&UserIdentity>,
    ) -> Result<(), AssociationRJServiceUserReason> {
        if called.trim() != own {
            return Err(AssociationRJServiceUserReason::CalledAETitleNotRecognized);
        }
        match self.allowed.iter().any(|allowed| allowed == calling.trim()) {
            true => Ok(()),
            false => Err(AssociationRJServiceUserReason::CallingAETitleNotRecognized),
        }
    }
}

/// A receiver that listens; it ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the associations share.
struct Shared {
    settings: ReceiverSettings,
    most_instance: u64,
    incoming: Arc<Incoming>,
    open: AtomicUsize,
    /// Connections with the time at which each is cut.
    until: Mutex<Vec<(TcpStream, Instant, u64)>>,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(crate) fn start(
        settings: ReceiverSettings,
        most_instance: u64,
        incoming: Arc<Incoming>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            settings,
            most_instance,
            incoming,
            open: AtomicUsize::new(0),
            until: Mutex::default(),
            stop: stop.clone(),
        });
        let thread =
            std::thread::Builder::new().name("dimse".into()).spawn(move || accept(&listener, &shared))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        cut_late(shared);
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if shared.open.load(Ordering::Relaxed) >= shared.settings.associations {
            study_log::of_all(
                study_log::WARNING,
                format!(
                    "a C-STORE association was closed: {} are open already",
                    shared.settings.associations
                ),
            );
            continue;
        }
        number += 1;
        shared.open.fetch_add(1, Ordering::Relaxed);
        let (of_thread, id) = (shared.clone(), number);
        let begun = std::thread::Builder::new().name(format!("dimse-{id}")).spawn(move || {
            of_thread.serve(stream, id);
            of_thread.open.fetch_sub(1, Ordering::Relaxed);
            of_thread.until().retain(|(_, _, other)| *other != id);
        });
        if begun.is_err() {
            shared.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
    // Associations that go on would keep the process: their senders send again.
    for (stream, ..) in shared.until().iter() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    let ends = Instant::now() + Duration::from_secs(5);
    while shared.open.load(Ordering::Relaxed) > 0 && Instant::now() < ends {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A byte a minute would hold an association for ever.
fn cut_late(shared: &Shared) {
    let now = Instant::now();
    for (stream, until, _) in shared.until().iter() {
        if now >= *until {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn until(&self) -> std::sync::MutexGuard<'_, Vec<(TcpStream, Instant, u64)>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, id: u64) {
        if let Err(reason) = self.associate(stream, id) {
            study_log::of_all(study_log::WARNING, format!("a C-STORE association ended: {reason}"));
        }
    }

    /// Until the caller releases it.
    fn associate(&self, stream: TcpStream, id: u64) -> Result<(), String> {
        let says = |e: io::Error| e.to_string();
        stream.set_nonblocking(false).map_err(says)?;
        let until = Instant::now() + Duration::from_secs(self.settings.association_minutes * 60);
        self.until().push((stream.try_clone().map_err(says)?, until, id));
        let timeout = Duration::from_secs(self.settings.timeout_seconds.max(1));
        let mut options = ServerAssociationOptions::new()
            .ae_access_control(Callers { allowed: self.settings.callers.clone() })
            .ae_title(self.settings.ae_title.clone())
            .max_pdu_length(MOST_PDU)
            .strict(true)
            .read_timeout(timeout)
            .write_timeout(timeout)
            .with_abstract_syntax(VERIFICATION);
        for class in IMAGE_CLASSES {
            options = options.with_abstract_syntax(class);
        }
        for syntax in TRANSFER_SYNTAXES {
            options = options.with_transfer_syntax(syntax);
        }
        let mut association = options.establish(stream).map_err(|e| short(&e))?;
        let mut message = Message { shared: self, command: Vec::new(), arriving: None };
        loop {
            match association.receive().map_err(|e| short(&e))? {
                Pdu::PData { data } => {
                    for value in data {
                        message.take(&mut association, value)?;
                    }
                }
                Pdu::ReleaseRQ => {
                    let _ = association.send(&Pdu::ReleaseRP);
                    return Ok(());
                }
                Pdu::AbortRQ { .. } => return Err("aborted by the caller".into()),
                _ => {
                    let _ = association.abort();
                    return Err("a PDU out of turn".into());
                }
            }
        }
    }
}

/// dicom-ul's errors may show what was received.
fn short(error: &dicom_ul::association::Error) -> String {
    use dicom_ul::association::Error;
    match error {
        Error::Rejected { .. } => "rejected: another called or calling AE title".into(),
        Error::ReceivePdu { .. } => "the connection ended, was silent too long, or sent no PDU".into(),
        Error::ConnectionClosed { .. } => "closed by the caller".into(),
        _ => "the association failed".into(),
    }
}

/// The message that is received.
struct Message<'a> {
    shared: &'a Shared,
    command: Vec<u8>,
    arriving: Option<Arriving>,
}

/// An instance whose data set comes.
struct Arriving {
    request: Command,
    context: u8,
    /// None once it is refused: the rest is read and dropped.
    file: Option<io::BufWriter<NamedTempFile>>,
    bytes: u64,
    status: u16,
}

impl Message<'_> {
    fn take(
        &mut self,
        association: &mut ServerAssociation<TcpStream>,
        value: PDataValue,
    ) -> Result<(), String> {
        let context = value.presentation_context_id;
        match value.value_type {
            PDataValueType::Command => {
                self.command.extend(&value.data);
                if self.command.len() > MOST_COMMAND || self.arriving.is_some() {
                    return Err("a command that is too long, or out of turn".into());
                }
                if value.is_last {
                    let bytes = std::mem::take(&mut self.command);
                    let command = Command::read(&bytes).ok_or("a command that is none")?;
                    self.begin(association, command, context)?;
                }
            }
            PDataValueType::Data => {
                let Some(arriving) = &mut self.arriving else {
                    return Err("a data set without a command".into());
                };
                if arriving.context != context {
                    return Err("a data set in another presentation context than its command".into());
                }
                arriving.write(&value.data, self.shared.most_instance);
                if value.is_last
                    && let Some(arriving) = self.arriving.take()
                {
                    let (request, status) = arriving.finish(&self.shared.incoming);
                    answer(association, context, &request, status)?;
                }
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        association: &mut ServerAssociation<TcpStream>,
        command: Command,
        context: u8,
    ) -> Result<(), String> {
        match command.field() {
            Some(C_ECHO_RQ) => answer(association, context, &command, 0),
            Some(C_STORE_RQ) if command.has_data_set() => {
                let accepted = association
                    .presentation_contexts()
                    .iter()
                    .find(|c| c.id == context && c.reason == PresentationContextResultReason::Acceptance);
                let accepted = accepted.ok_or("a command in a presentation context that was not accepted")?;
                let mut arriving = Arriving { request: command, context, file: None, bytes: 0, status: 0 };
                let class = arriving.request.sop_class().unwrap_or_default();
                if class != accepted.abstract_syntax || arriving.request.sop_instance().is_none() {
                    arriving.status = NOT_UNDERSTOOD;
                } else if !self.shared.incoming.has_room() {
                    study_log::of_all(
                        study_log::WARNING,
                        "an instance was refused: [receiver] waiting_gb is reached",
                    );
                    arriving.status = OUT_OF_RESOURCES;
                } else {
                    arriving.open(&self.shared.incoming, &accepted.transfer_syntax);
                }
                self.arriving = Some(arriving);
                Ok(())
            }
            // Neither is offered, so nobody should ask; 0211: unrecognized operation.
            Some(field) if field & 0x8000 == 0 && !command.has_data_set() => {
                answer(association, context, &command, 0x0211)
            }
            _ => Err("a command that is not C-STORE or C-ECHO".into()),
        }
    }
}

impl Arriving {
    fn open(&mut self, incoming: &Incoming, transfer_syntax: &str) {
        let class = self.request.sop_class().unwrap_or_default();
        let instance = self.request.sop_instance().unwrap_or_default();
        let meta = file_meta(class, instance, transfer_syntax).map_err(io::Error::other);
        let opened = meta.and_then(|meta| {
            let mut file = io::BufWriter::with_capacity(256 << 10, incoming.part()?);
            file.write_all(&meta)?;
            Ok(file)
        });
        match opened {
            Ok(file) => self.file = Some(file),
            Err(e) => {
                study_log::of_all(study_log::ERROR, format!("a received instance cannot be written ({e})"));
                self.status = OUT_OF_RESOURCES;
            }
        }
    }

    fn write(&mut self, bytes: &[u8], most: u64) {
        self.bytes += bytes.len() as u64;
        let Some(file) = &mut self.file else { return };
        if self.bytes > most {
            study_log::of_all(
                study_log::WARNING,
                format!("an instance was refused: it has more than {most} bytes ([limits] instance_mb)"),
            );
            (self.file, self.status) = (None, OUT_OF_RESOURCES);
        } else if let Err(e) = file.write_all(bytes) {
            study_log::of_all(study_log::ERROR, format!("a received instance cannot be written ({e})"));
            (self.file, self.status) = (None, OUT_OF_RESOURCES);
        }
    }

    fn finish(self, incoming: &Incoming) -> (Command, u16) {
        let Some(file) = self.file else { return (self.request, self.status) };
        let kept = match file.into_inner() {
            Ok(file) => {
                let class = self.request.sop_class().unwrap_or_default();
                incoming.keep(file, class, self.request.sop_instance().unwrap_or_default())
            }
            Err(_) => Err(NotKept::Refused(OUT_OF_RESOURCES)),
        };
        let status = match kept {
            // Our own result came back by some route: the sender did nothing wrong.
            Ok(()) | Err(NotKept::Own) => 0,
            Err(NotKept::Refused(status)) => status,
        };
        (self.request, status)
    }
}

fn answer(
    association: &mut ServerAssociation<TcpStream>,
    context: u8,
    request: &Command,
    status: u16,
) -> Result<(), String> {
    let value = PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: request.answer(status).write(),
    };
    association.send(&Pdu::PData { data: vec![value] }).map_err(|e| short(&e))
}
