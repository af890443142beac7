//! An archive on loopback that can be down, slow, full, wrong, or cut its answers: real HTTP, nothing of DICOM but UIDs.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anymc3d_dicom::{Limits, read_instance};
use serde_json::{Value, json};

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// The connection is closed before an answer.
    Close,
    /// A status, and nothing is done.
    Status(u16),
    /// 503 with Retry-After in seconds.
    Busy(u64),
    /// Nothing for so long, then the answer.
    Slow(Duration),
    /// The answer ends after so many bytes of its body.
    Cut(usize),
    /// STOW: everything is stored, and the connection is closed before the answer.
    StoreAndClose,
    /// STOW: the first instance is stored; a 400 or 409 says so.
    Partly(u16),
    /// STOW: the first instance is stored; a 400 says nothing.
    PartlyAndSilent,
    /// STOW: nothing is stored, and a 409 has this FailureReason for each.
    FailAll(u16),
    /// STOW: 200 says that all is stored, and nothing is.
    Lie,
}

#[derive(Clone)]
pub(super) struct Stored {
    pub study: String,
    pub series: String,
    pub bytes: Vec<u8>,
    /// Attributes of the series, as QIDO-RS gives them.
    pub facts: Value,
}

#[derive(Default)]
pub(super) struct State {
    /// By SOP Instance UID.
    pub instances: BTreeMap<String, Stored>,
    /// Requests, as `GET /studies/…` without the query.
    pub requests: Vec<String>,
    /// For the next requests whose line begins so.
    pub faults: VecDeque<(&'static str, Fault)>,
    /// Requests with a body above this are 413.
    pub most_body: Option<usize>,
    /// Needed in every request.
    pub authorization: Option<String>,
    /// How often an instance was stored that was there already.
    pub repeated: usize,
    /// SOP Instance UIDs in the order in which they came.
    pub stored: Vec<String>,
    /// A SOP class with which a whole request is answered 400, and nothing of it is kept.
    pub poison: Option<&'static str>,
    /// Whether PatientName is changed as archives do.
    pub coerce: bool,
}

pub(super) struct FakeArchive {
    pub url: String,
    pub state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeArchive {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0", Arc::default())
    }

    /// An archive that comes back where it was.
    pub fn at(address: &str, state: Arc<Mutex<State>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}/dicom-web", listener.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, shared) = (stop.clone(), state.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || {
                    // A client that leaves is no failure of a test.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Self { url, state, stop, thread: Some(thread) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").trim_end_matches("/dicom-web").to_owned()
    }

    /// Files as they lie in the archive.
    pub fn add(&self, bytes: Vec<u8>) {
        keep(&mut self.state(), bytes);
    }

    pub fn fail(&self, request: &'static str, fault: Fault) {
        self.state().faults.push_back((request, fault));
    }

    /// Objects of this program, by SOP class.
    pub fn own(&self) -> Vec<String> {
        let state = self.state();
        let own = state.instances.iter().filter(|(uid, _)| uid.starts_with("2.25."));
        own.map(|(uid, _)| uid.clone()).collect()
    }

    pub fn count(&self, begins: &str) -> usize {
        self.state().requests.iter().filter(|r| r.starts_with(begins)).count()
    }
}

impl Drop for FakeArchive {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(state: &mut State, mut bytes: Vec<u8>) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let instance = read_instance(file.path(), &Limits::default()).ok().unwrap();
    let text =
        |vr: &str, value: Option<&str>| json!({"vr": vr, "Value": value.into_iter().collect::<Vec<_>>()});
    let own = if instance.is_own { Some("AnyMC3D") } else { None };
    let facts = json!({
        "00080016": text("UI", Some(&instance.sop_class)),
        "00080060": text("CS", Some(&instance.modality)),
        "00080070": text("LO", own),
        "0008103E": text("LO", instance.series_description.as_deref()),
        "00180015": text("CS", instance.body_part.as_deref()),
        "00181030": text("LO", instance.protocol.as_deref()),
        "00180050": {"vr": "DS", "Value": instance.slice_thickness_mm.into_iter().collect::<Vec<_>>()},
        "0020000D": text("UI", Some(&instance.study_uid)),
        "0020000E": text("UI", Some(&instance.series_uid)),
    });
    let uid = instance.sop_instance.clone();
    state.stored.push(uid.clone());
    if state.instances.contains_key(&uid) {
        // As Orthanc: the new content is dropped.
        state.repeated += 1;
        return uid;
    }
    if state.coerce
        && let Some(at) = bytes.windows(3).position(|w| w == b"DOE")
    {
        bytes[at..at + 3].copy_from_slice(b"ROE");
    }
    let stored = Stored { study: instance.study_uid, series: instance.series_uid, bytes, facts };
    state.instances.insert(uid.clone(), stored);
    uid
}

fn serve(stream: TcpStream, shared: &Mutex<State>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim_end().split_once(':') {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
                None => break,
            };
        }
        let length: usize = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut parts = line.split_whitespace();
        let (method, uri) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let path = path.trim_start_matches("/dicom-web");
        let asked = format!("{method} {path}");
        let fault = {
            let mut state = shared.lock().unwrap();
            state.requests.push(asked.clone());
            if state.authorization.is_some() && state.authorization.as_ref() != headers.get("authorization") {
                Some(Fault::Status(401))
            } else if state.most_body.is_some_and(|most| length > most) {
                Some(Fault::Status(413))
            } else {
                let at = state.faults.iter().position(|(begins, _)| asked.starts_with(begins));
                at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
            }
        };
        let mut cut = None;
        match fault {
            Some(Fault::Close) => return Ok(()),
            Some(Fault::Status(status)) => {
                write!(out, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Some(Fault::Busy(seconds)) => {
                write!(out, "HTTP/1.1 503 No\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            Some(Fault::Slow(wait)) => std::thread::sleep(wait),
            Some(Fault::Cut(after)) => cut = Some(after),
            _ => {}
        }
        let (status, kind, answer) = match method {
            "POST" => match store(&mut shared.lock().unwrap(), &headers, &body, fault) {
                Some(answer) => answer,
                None => return Ok(()),
            },
            _ => get(&shared.lock().unwrap(), path, query),
        };
        write!(
            out,
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        )?;
        if let Some(after) = cut {
            out.write_all(&answer[..after.min(answer.len())])?;
            return Ok(());
        }
        out.write_all(&answer)?;
    }
}

type Answer = (u16, String, Vec<u8>);

fn store(
    state: &mut State,
    headers: &BTreeMap<String, String>,
    body: &[u8],
    fault: Option<Fault>,
) -> Option<Answer> {
    let boundary = super::super::multipart::boundary_of(&headers["content-type"]).unwrap();
    let mut parts = super::super::multipart::Parts::new(body, &boundary);
    let mut files = Vec::new();
    while let Some(part) = parts.next().unwrap() {
        let mut bytes = Vec::new();
        part.copy_to(&mut bytes, u64::MAX).unwrap();
        files.push(bytes);
    }
    if let Some(class) = state.poison
        && files.iter().any(|file| file.windows(class.len()).any(|w| w == class.as_bytes()))
    {
        return Some((400, "text/plain".to_owned(), b"bad".to_vec()));
    }
    let item = |uid: &String| json!({"00081155": {"vr": "UI", "Value": [uid]}});
    let failed = |uid: &String, code: u16| json!({"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [code]}});
    let uid_of = |bytes: &Vec<u8>| keep(&mut State::default(), bytes.clone());
    let reply = |status, stored: Vec<Value>, failed: Vec<Value>| {
        let value = json!({
            "00081199": {"vr": "SQ", "Value": stored}, "00081198": {"vr": "SQ", "Value": failed}
        });
        Some((status, "application/dicom+json".to_owned(), value.to_string().into_bytes()))
    };
    match fault {
        Some(Fault::StoreAndClose) => {
            files.into_iter().for_each(|file| drop(keep(state, file)));
            None
        }
        Some(Fault::Partly(status)) => {
            let rest: Vec<Value> = files[1..].iter().map(|f| failed(&uid_of(f), 0x0110)).collect();
            let first = keep(state, files.remove(0));
            reply(status, vec![item(&first)], rest)
        }
        Some(Fault::PartlyAndSilent) => {
            keep(state, files.remove(0));
            Some((400, "text/plain".to_owned(), b"bad".to_vec()))
        }
        Some(Fault::FailAll(code)) => {
            reply(409, Vec::new(), files.iter().map(|f| failed(&uid_of(f), code)).collect())
        }
        Some(Fault::Lie) => reply(200, files.iter().map(|f| item(&uid_of(f))).collect(), Vec::new()),
        _ => {
            let stored: Vec<String> = files.into_iter().map(|file| keep(state, file)).collect();
            reply(200, stored.iter().map(item).collect(), Vec::new())
        }
    }
}

fn get(state: &State, path: &str, query: &str) -> Answer {
    let parameter = |name: &str| {
        query
            .split('&')
            .filter_map(|p| p.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.to_owned())
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let within = |stored: &&Stored, study: &str, series: Option<&str>| {
        stored.study == study && series.is_none_or(|s| stored.series == s)
    };
    let list = |items: Vec<Value>| {
        let number = |name| parameter(name).and_then(|n| n.parse::<usize>().ok());
        let page: Vec<Value> = items
            .into_iter()
            .skip(number("offset").unwrap_or(0))
            .take(number("limit").unwrap_or(100))
            .collect();
        match page.is_empty() {
            true => (204, "text/plain".to_owned(), Vec::new()),
            false => (200, "application/dicom+json".to_owned(), Value::Array(page).to_string().into_bytes()),
        }
    };
    let related = |key: &str, value: Value| json!({key: {"vr": "IS", "Value": [value]}});
    match parts.as_slice() {
        ["studies"] => {
            let mut studies: BTreeMap<&str, usize> = BTreeMap::new();
            for stored in state.instances.values() {
                *studies.entry(&stored.study).or_default() += 1;
            }
            let wanted = parameter("StudyInstanceUID");
            let items = studies.into_iter().filter(|(uid, _)| wanted.as_ref().is_none_or(|w| w == uid));
            list(
                items
                    .map(|(uid, n)| {
                        merged([
                            related("00201208", n.into()),
                            json!({"0020000D": {"vr": "UI", "Value": [uid]}}),
                        ])
                    })
                    .collect(),
            )
        }
        ["studies", study, "series"] => {
            let mut series: BTreeMap<&str, (usize, &Value)> = BTreeMap::new();
            for stored in state.instances.values().filter(|s| within(s, study, None)) {
                series.entry(&stored.series).or_insert((0, &stored.facts)).0 += 1;
            }
            // Archives know neither thickness nor SOP class on the level of series.
            let shown = |facts: &Value| {
                let mut facts = facts.clone();
                facts.as_object_mut().unwrap().remove("00180050");
                facts.as_object_mut().unwrap().remove("00080016");
                facts
            };
            list(series.values().map(|(n, f)| merged([shown(f), related("00201209", (*n).into())])).collect())
        }
        ["studies", study, "series", series, "instances"] => {
            let found = state.instances.iter().filter(|(_, s)| within(s, study, Some(series)));
            list(found.map(|(uid, _)| json!({"00080018": {"vr": "UI", "Value": [uid]}})).collect())
        }
        ["studies", study, "series", series, "instances", uid, "metadata"] => {
            match state.instances.get(*uid).filter(|s| within(s, study, Some(series))) {
                Some(stored) => list(vec![stored.facts.clone()]),
                None => (404, "text/plain".to_owned(), Vec::new()),
            }
        }
        ["studies", study, "series", series, rest @ ..] => {
            let uid = match rest {
                ["instances", uid] => Some(*uid),
                _ => None,
            };
            let found = state
                .instances
                .iter()
                .filter(|(known, s)| within(s, study, Some(series)) && uid.is_none_or(|uid| *known == uid));
            let mut body = Vec::new();
            for (_, stored) in found {
                body.extend(b"\r\n--frontier\r\nContent-Type: application/dicom\r\n\r\n");
                body.extend(&stored.bytes);
            }
            if body.is_empty() {
                return (404, "text/plain".to_owned(), Vec::new());
            }
            body.extend(b"\r\n--frontier--\r\n");
            (200, "multipart/related; type=\"application/dicom\"; boundary=frontier".to_owned(), body)
        }
        _ => (404, "text/plain".to_owned(), Vec::new()),
    }
}

fn merged<const N: usize>(values: [Value; N]) -> Value {
    let mut all = serde_json::Map::new();
    for value in values {
        all.extend(value.as_object().unwrap().clone());
    }
    Value::Object(all)
}
