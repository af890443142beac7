//! The receiver and the sender, each against the other: real associations on loopback.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::incoming::Incoming;
use super::receiver::Receiver;
use super::sender::send_all;
use crate::dicomweb::tests::files::{CT, SR, result, slice};
use crate::dicomweb::{
    ArchiveError, ObjectState, Peer, ReceiverSettings, SentObject, StudyOrigin, StudyRecord,
};

fn settings(more: &str) -> ReceiverSettings {
    toml::from_str(&format!("listen = \"127.0.0.1:0\"\ncallers = [\"SENDER\"]\ntimeout_seconds = 1\n{more}"))
        .unwrap()
}

fn receiver(folder: &Path, more: &str, most_instance: u64) -> (Receiver, Arc<Incoming>) {
    let settings = settings(more);
    let incoming = Arc::new(Incoming::open(folder, b"0123456789abcdef", settings.waiting_gb << 30).unwrap());
    (Receiver::start(settings, most_instance, incoming.clone()).unwrap(), incoming)
}

fn peer(receiver: &Receiver, calling: &str) -> Peer {
    Peer {
        address: receiver.address().to_string(),
        ae_title: "ANYMC3D".into(),
        calling_ae_title: calling.into(),
    }
}

/// Sends files as results are sent.
fn send(peer: &Peer, files: &[Vec<u8>], classes: &[&str]) -> (StudyRecord, Result<(), ArchiveError>) {
    let outbox = tempfile::tempdir().unwrap();
    let mut record = StudyRecord::new("1.2.3", StudyOrigin::Dimse, Vec::new());
    for (at, (bytes, class)) in files.iter().zip(classes).enumerate() {
        let file = format!("0-{at}-x.dcm");
        std::fs::write(outbox.path().join(&file), bytes).unwrap();
        let instance =
            anymc3d_dicom::read_instance(&outbox.path().join(&file), &Default::default()).ok().unwrap();
        record.objects.push(SentObject {
            file,
            sop_class: (*class).to_owned(),
            sop_instance: instance.sop_instance,
            series: instance.series_uid,
            state: ObjectState::Waiting,
        });
    }
    let ended = send_all(peer, outbox.path(), &mut record, &mut |_| Ok(()));
    (record, ended)
}

fn series() -> Vec<Vec<u8>> {
    (1..=4).map(|at| slice("1.2.3", "1.2.3.1", &format!("1.2.3.1.{at}")).bytes()).collect()
}

#[test]
fn a_series_that_is_sent_is_on_the_disk_before_it_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, incoming) = receiver(folder.path(), "", 1 << 20);
    let files = series();
    let (record, ended) = send(&peer(&receiver, "SENDER"), &files, &[CT; 4]);
    assert_eq!(ended, Ok(()));
    assert!(record.objects.iter().all(|o| o.state == ObjectState::Stored));
    // After a restart all of it waits.
    drop(receiver);
    drop(incoming);
    std::fs::write(folder.path().join(".part-left"), "cut").unwrap();
    let incoming = Incoming::open(folder.path(), b"0123456789abcdef", 1 << 30).unwrap();
    assert!(incoming.quiet(Duration::from_secs(60)).is_empty());
    let waiting = incoming.quiet(Duration::ZERO);
    assert_eq!(waiting.len(), 1);
    let (name, at) = waiting[0].clone();
    assert!(!name.contains("1.2.3"));
    let study = incoming.read(&name).unwrap().unwrap();
    assert_eq!((study.uid.as_str(), study.series.len(), study.series[0].instances), ("1.2.3", 1, Some(4)));
    let to = tempfile::tempdir().unwrap();
    study.hand_over("1.2.3.1", to.path()).unwrap();
    let mut kept: Vec<Vec<u8>> =
        std::fs::read_dir(to.path()).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    let mut sent = files;
    kept.sort();
    sent.sort();
    assert!(kept == sent, "byte for byte");
    incoming.done(&name, at).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn who_is_not_named_is_rejected_and_so_is_a_call_for_another_title() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, incoming) = receiver(folder.path(), "", 1 << 20);
    let stranger = peer(&receiver, "STRANGER");
    let other = Peer { ae_title: "OTHER".into(), ..peer(&receiver, "SENDER") };
    for peer in [stranger, other] {
        let (_, ended) = send(&peer, &series(), &[CT; 4]);
        assert!(matches!(ended, Err(ArchiveError::Unavailable { reason, .. }) if reason.contains("rejects")));
    }
    assert_eq!(incoming.len(), 0);
}

#[test]
fn reports_are_refused_by_class_and_our_own_images_are_taken_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, incoming) = receiver(folder.path(), "", 1 << 20);
    let report = result("1.2.3", SR, "2.25.1", "2.25.2").bytes();
    let own = crate::dicomweb::tests::files::File {
        manufacturer: "AnyMC3D",
        ..slice("1.2.3", "1.2.3.1", "1.2.3.1.9")
    };
    let (record, ended) = send(&peer(&receiver, "SENDER"), &[report, own.bytes()], &[SR, CT]);
    assert_eq!(ended, Ok(()));
    assert_eq!(record.objects[0].state, ObjectState::Refused);
    assert!(record.notes[0].contains("does not take its SOP class"), "{:?}", record.notes);
    assert_eq!(record.objects[1].state, ObjectState::Stored, "its sender did nothing wrong");
    assert_eq!(incoming.len(), 0, "and it is not kept");
}

#[test]
fn bounds_of_bytes_and_contradictions_are_answered_with_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let (small, incoming) = receiver(folder.path(), "", 100);
    let (record, ended) = send(&peer(&small, "SENDER"), &series(), &[CT; 4]);
    assert!(matches!(ended, Err(ArchiveError::Interrupted(reason)) if reason.contains("A700")));
    assert!(record.objects.iter().all(|o| o.state == ObjectState::Begun));
    assert_eq!(
        (incoming.len(), std::fs::read_dir(folder.path()).unwrap().count()),
        (0, 0),
        "nothing half-written"
    );
    drop(small);
    // The disk of what waits is full.
    let (full, incoming) = receiver(folder.path(), "waiting_gb = 0", 1 << 20);
    assert!(matches!(send(&peer(&full, "SENDER"), &series(), &[CT; 4]).1, Err(ArchiveError::Interrupted(_))));
    assert_eq!(incoming.len(), 0);
    drop(full);
    // The command names another class than the data set.
    let (receiver, incoming) = receiver(folder.path(), "", 1 << 20);
    let (record, _) = send(&peer(&receiver, "SENDER"), &series()[..1], &["1.2.840.10008.5.1.4.1.1.4"]);
    assert!(record.notes[0].contains("A900"), "{:?}", record.notes);
    assert_eq!(incoming.len(), 0);
}

#[test]
fn associations_have_a_bound_and_one_that_is_silent_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, _) = receiver(folder.path(), "associations = 2", 1 << 20);
    let silent: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(receiver.address()).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(200));
    let (_, ended) = send(&peer(&receiver, "SENDER"), &series(), &[CT; 4]);
    assert!(matches!(ended, Err(ArchiveError::Unavailable { .. })), "two are open already");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(
        send(&peer(&receiver, "SENDER"), &series(), &[CT; 4]).1,
        Ok(()),
        "the silent ones were closed"
    );
    drop(silent);
}

#[test]
fn bytes_that_are_no_dicom_end_the_association_and_not_the_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, _) = receiver(folder.path(), "", 1 << 20);
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], &[4, 0, 0, 0, 0, 0], &[0; 64]]
    {
        let mut stream = TcpStream::connect(receiver.address()).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert_eq!(send(&peer(&receiver, "SENDER"), &series(), &[CT; 4]).1, Ok(()));
}

#[test]
fn a_peer_that_is_away_is_no_failure_of_the_study() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let peer = Peer { address, ae_title: "X".into(), calling_ae_title: "Y".into() };
    assert!(matches!(send(&peer, &series(), &[CT; 4]).1, Err(ArchiveError::Unavailable { .. })));
}
