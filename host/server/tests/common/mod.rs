//! A server on loopback with small plugins, and a client that sends what it is told, byte for byte.
#![allow(dead_code, reason = "each test file uses a part of it")]

use anymc3d_host::run::isolate::Limits;
use anymc3d_host::run::{Isolation, Selection, SessionOptions};
use anymc3d_server::access::{Scope, add_token};
use anymc3d_server::jobs::{Jobs, Retention};
use anymc3d_server::{Outputs, RequestLimits, ServeError, Server, ServerOptions, Stop, StudyOptions};
use anymc3d_tests::{host_binary, small, tiny_backbone};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// The plugins of all tests of a file: one that answers, and one that aborts at scans that lie far away.
pub fn plugins() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<(tempfile::TempDir, [PathBuf; 2])> = OnceLock::new();
    let made = || {
        let folder = tempfile::tempdir().unwrap();
        let plugins = [small::probe(folder.path()), small::misbehaving(folder.path(), "abort_far_away")];
        (folder, plugins)
    };
    &MADE.get_or_init(made).1
}

/// How plugins are opened: on the tiny backbone, each in a process of its own.
pub fn session(faults: u32) -> SessionOptions {
    let host = host_binary();
    let mut options = SessionOptions::default();
    options.backbone = Some(tiny_backbone().display().to_string());
    options.threads = Some(1);
    options.isolation = Some(Isolation {
        limits: Limits { time: Duration::from_secs(120), faults },
        max_memory: None,
        micro_ct: false,
        spawn: Arc::new(move |socket: OwnedFd| {
            Command::new(&host).args(["-q", "worker"]).stdin(socket).stdout(Stdio::null()).spawn()
        }),
    });
    options
}

/// A server that runs until it is dropped.
pub struct Running {
    pub data: PathBuf,
    pub address: SocketAddr,
    pub jobs: Option<Arc<Jobs>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    _folder: Option<tempfile::TempDir>,
}

/// What a test chooses.
pub struct Choice {
    pub plugins: Vec<PathBuf>,
    pub tokens: Option<PathBuf>,
    pub limits: RequestLimits,
    pub queue: usize,
    pub window: Duration,
    pub faults: u32,
    pub data: Option<PathBuf>,
    pub studies: Option<StudyOptions>,
}

impl Default for Choice {
    fn default() -> Self {
        let limits = RequestLimits {
            idle: Duration::from_secs(20),
            scan_bytes: 4 << 20,
            infer_bytes: 1 << 20,
            infer_memory: 64 << 20,
            ..RequestLimits::default()
        };
        Self {
            plugins: vec![plugins()[0].clone()],
            tokens: None,
            limits,
            queue: 64,
            window: Duration::ZERO,
            faults: 1,
            data: None,
            studies: None,
        }
    }
}

pub fn serve(choice: Choice) -> Running {
    try_serve(choice).unwrap_or_else(|e| panic!("{e}"))
}

pub fn try_serve(choice: Choice) -> Result<Running, ServeError> {
    let folder = choice.data.is_none().then(|| tempfile::tempdir().unwrap());
    let data = choice.data.unwrap_or_else(|| folder.as_ref().unwrap().path().to_owned());
    let names: Vec<String> = choice.plugins.iter().map(|p| p.display().to_string()).collect();
    let session = session(choice.faults);
    let selection = Selection::new(&names, &session.choice).unwrap();
    let options = ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        hosts: vec!["ai.hospital.example".to_owned()],
        data: data.clone(),
        tls: None,
        tokens: choice.tokens,
        insecure: false,
        limits: choice.limits,
        queue: choice.queue,
        window: choice.window,
        retention: Retention { age: None, bytes: None },
        outputs: Outputs::default(),
        grace: Duration::from_secs(20),
        studies: choice.studies,
    };
    let server = Server::open(selection, session, options)?;
    let (address, jobs) = (server.address().unwrap(), server.jobs());
    let (sender, ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        server.run(|stop| sender.send(stop).unwrap()).unwrap();
    });
    let stop = ready.recv().unwrap();
    Ok(Running { data, address, jobs: Some(jobs), stop, thread: Some(thread), _folder: folder })
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs = None;
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

fn taken_apart(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer: {:?}", String::from_utf8_lossy(bytes));
    });
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        body = unchunked(&body);
    }
    Answer { status, headers, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        all.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    all
}

impl Running {
    /// Sends bytes as they are, and reads until the server hangs up.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may refuse before it has read all.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        taken_apart(&answer)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if headers.iter().all(|(name, _)| *name != "host") {
            head += "host: localhost\r\n";
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += &format!("content-length: {}\r\n\r\n", body.len());
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// The status, where the server answers at all.
    pub fn try_get(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
            )
            .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        (!answer.is_empty()).then(|| taken_apart(&answer).status)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Submits a scan; the job's name.
    pub fn submit(&self, scan: &[u8]) -> String {
        let answer = self.ask("POST", "/scans", &[], scan);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits for a job's end by its events: its record, and what was told before.
    pub fn end(&self, id: &str) -> (Value, Vec<Value>) {
        let answer = self.get(&format!("/jobs/{id}/events"));
        assert_eq!(answer.headers["content-type"], "text/event-stream", "{answer:?}");
        let text = String::from_utf8(answer.body).unwrap();
        let mut told = Vec::new();
        for event in text.split("\n\n").filter(|event| event.starts_with("event: ")) {
            let (name, data) = event.split_once("\ndata: ").unwrap();
            let data = serde_json::from_str(data).unwrap();
            match name {
                "event: end" => return (data, told),
                _ => told.push(data),
            }
        }
        panic!("no end: {text}");
    }
}

/// A small scan's bytes.
pub fn scan(seed: usize, origin: [f64; 3]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.nii");
    small::scan(&path, seed, origin);
    std::fs::read(path).unwrap()
}

/// One that the second plugin aborts at.
pub const FAR: [f64; 3] = [0.0, 0.0, 5000.0];
pub const NEAR: [f64; 3] = [0.0, 0.0, 0.0];

/// A file of tokens, and a token for each scope.
pub fn tokens(folder: &Path) -> (PathBuf, BTreeMap<&'static str, String>) {
    let file = folder.join("tokens.toml");
    let scopes = [("read", Scope::Read), ("infer", Scope::Infer), ("admin", Scope::Admin)];
    let made = scopes.map(|(name, scope)| (name, add_token(&file, name, [scope].into(), None).unwrap()));
    (file, made.into())
}
