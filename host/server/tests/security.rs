//! The rows of docs/security.md: each attack, and what comes of it.

mod common;

use anymc3d_server::RequestLimits;
use common::{Answer, Choice, NEAR, Running, scan, serve, tokens};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn gzipped(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let mut block = Vec::with_capacity(1 << 20);
    for byte in bytes {
        block.push(byte);
        if block.len() == 1 << 20 {
            packed.write_all(&block).unwrap();
            block.clear();
        }
    }
    packed.write_all(&block).unwrap();
    packed.finish().unwrap()
}

/// Waits for a job, which must fail, with nobody's path in what it says.
fn failed(server: &Running, answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let (job, _) = server.end(answer.json()["id"].as_str().unwrap());
    assert_eq!(job["state"], "failed", "{job}");
    assert!(!job.to_string().contains(server.data.to_str().unwrap()), "{job}");
    job["failures"][0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn no_token_a_wrong_one_or_one_of_another_scope_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tokens) = tokens(folder.path());
    let server = serve(Choice { tokens: Some(file), ..Choice::default() });
    let with = |scope: &str, method: &str, path: &str, body: &[u8]| {
        let bearer = format!("Bearer {}", tokens[scope]);
        server.ask(method, path, &[("authorization", &bearer)], body)
    };
    for path in ["/jobs", "/v2", "/v2/models", "/metrics", "/scans", "/nowhere", "/jobs/x/results/a/b/c"] {
        let none = server.get(path);
        assert_eq!((none.status, none.headers["www-authenticate"].as_str()), (401, "Bearer"), "{path}");
        for wrong in ["Bearer x", "Basic eDp5", "Bearer ", "Bearer anymc3d_0000"] {
            assert_eq!(
                server.ask("GET", path, &[("authorization", wrong)], b"").status,
                401,
                "{path} {wrong}"
            );
        }
    }
    for path in ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(with("read", "POST", "/scans", &scan(1, NEAR)).status, 403);
    assert_eq!(with("read", "POST", "/v2/models/mean_probe/infer", b"{}").status, 403);
    assert_eq!(with("infer", "GET", "/metrics", b"").status, 403);
    assert_eq!(with("infer", "POST", "/v2/repository/models/mean_probe/load", b"").status, 403);
    assert_eq!(with("admin", "GET", "/jobs", b"").status, 403);
    let submitted = with("infer", "POST", "/scans", &scan(1, NEAR));
    assert_eq!(submitted.status, 202);
    let id = submitted.json()["id"].as_str().unwrap().to_owned();
    let job = format!("/jobs/{id}");
    assert_eq!(with("infer", "GET", &job, b"").status, 200, "its own");
    assert_eq!(with("read", "GET", &job, b"").status, 200);
    assert_eq!(with("admin", "GET", &job, b"").status, 403);
    assert_eq!(with("read", "DELETE", &job, b"").status, 403);
    // Another token with the same scope does not see it.
    let scope = [anymc3d_server::access::Scope::Infer].into();
    let other =
        anymc3d_server::access::add_token(&folder.path().join("tokens.toml"), "other", scope, None).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let bearer = format!("Bearer {other}");
    let seen = loop {
        let answer = server.ask("GET", &job, &[("authorization", &bearer)], b"");
        if answer.status != 401 || Instant::now() > until {
            break answer.status;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(seen, 404, "the file is read again, and the job is another's");
    let until = Instant::now() + Duration::from_secs(60);
    while with("admin", "DELETE", &job, b"").status == 409 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(with("read", "GET", &job, b"").status, 404);
    let log = std::fs::read_to_string(server.data.join("audit.jsonl")).unwrap();
    assert!(log.contains("\"event\":\"forbidden\"") && tokens.values().all(|token| !log.contains(token)));
}

#[test]
fn a_name_of_a_job_or_a_file_leads_nowhere_else() {
    let server = serve(Choice::default());
    let (job, _) = server.end(&server.submit(&scan(1, NEAR)));
    let id = job["id"].as_str().unwrap();
    let (case, plugin) = (job["results"][0]["case"].as_str().unwrap(), "mean_probe");
    for path in [
        "/jobs/..".to_owned(),
        "/jobs/%2e%2e%2f%2e%2e%2faudit.jsonl".to_owned(),
        format!("/jobs/{id}/results/../scan.nii"),
        format!("/jobs/{id}/results/{case}/{plugin}/../../../scan.nii"),
        format!("/jobs/{id}/results/{case}/{plugin}/%2e%2e/%2e%2e/%2e%2e/scan.nii"),
        format!("/jobs/{id}/results/{case}/{plugin}/..%2f..%2f..%2fscan.nii"),
        format!("/jobs/{id}/results//etc/passwd"),
        format!("/jobs/{id}/results/{case}/{plugin}/"),
        format!("/jobs/{}/results/{case}/{plugin}/result.json", id.to_uppercase() + "x"),
        "/v2/models/..%2f..%2fjobs/ready".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("root:"), "{path}");
    }
}

#[test]
fn zips_that_lead_outside_or_unpack_without_end_leave_nothing() {
    let limits = RequestLimits { scan_bytes: 64 << 20, ..Choice::default().limits };
    let server = serve(Choice { limits, ..Choice::default() });
    let zipped = |name: &str, bytes: &mut dyn Read| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::copy(bytes, &mut zip).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("written").display().to_string();
    for name in ["../../../../../tmp/anymc3d-outside", target.as_str(), "a/../../b"] {
        let zip = zipped(name, &mut &b"no DICOM"[..]);
        failed(&server, &server.ask("POST", "/scans", &[], &zip));
    }
    assert!(
        !outside.path().join("written").exists() && !std::path::Path::new("/tmp/anymc3d-outside").exists()
    );
    let mut header = [0u8; 132];
    header[128..].copy_from_slice(b"DICM");
    let bomb = zipped("bomb", &mut header.as_slice().chain(std::io::repeat(0).take(300 << 20)));
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let said = failed(&server, &server.ask("POST", "/scans", &[], &bomb));
    assert!(said.contains("limit") || said.contains("times"), "{said}");
}

#[test]
fn what_unpacks_to_more_than_is_taken_is_refused_while_it_unpacks() {
    let server = serve(Choice::default());
    let packed = gzipped(std::iter::repeat_n(b' ', 64 << 20));
    assert!(packed.len() < 256 << 10);
    let headers = [("content-encoding", "gzip")];
    let answer = server.ask("POST", "/v2/models/mean_probe/infer", &headers, &packed);
    assert!(answer.status == 413 && answer.error().contains("unpacks to more"), "{answer:?}");
    let other = server.ask("POST", "/v2/models/mean_probe/infer", &[("content-encoding", "br")], b"x");
    assert_eq!(other.status, 415);
    assert_eq!(server.ask("POST", "/scans", &headers, &packed).status, 415);
    // A scan whose header says that it is small, and one that says that it is large.
    let small = scan(1, NEAR);
    let longer = gzipped(small.iter().copied().chain(std::iter::repeat_n(0, 300 << 20)));
    let answer = server.ask("POST", "/scans", &[], &longer);
    let (job, _) = server.end(answer.json()["id"].as_str().unwrap());
    assert!(
        ["done", "failed"].contains(&job["state"].as_str().unwrap()),
        "what is behind the voxels is not kept"
    );
    let mut large = small;
    for at in [42, 44, 46] {
        large[at..at + 2].copy_from_slice(&32767i16.to_le_bytes());
    }
    let said = failed(&server, &server.ask("POST", "/scans", &[], &gzipped(large.into_iter())));
    assert!(said.contains("expected"), "{said}");
}

#[test]
fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let server = serve(Choice::default());
    let says = server.raw(b"POST /scans HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n");
    assert_eq!(says.status, 413);
    let infer = "POST /v2/models/mean_probe/infer HTTP/1.1\r\nhost: localhost\r\n";
    let says = server.raw(format!("{infer}content-length: 99999999999\r\n\r\n").as_bytes());
    assert_eq!(says.status, 413);
    let mut chunked = format!("{infer}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..40 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(server.raw(&chunked).status, 413);
}

#[test]
fn slow_clients_are_given_up() {
    let limits = RequestLimits {
        header_time: Duration::from_millis(500),
        idle: Duration::from_millis(700),
        slowest: 1_000_000,
        ..Choice::default().limits
    };
    let server = serve(Choice { limits, ..Choice::default() });
    let until_closed = |first: &[u8], drip: &[u8]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.write_all(first).unwrap();
        let (began, mut answer) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(60) {
            let _ = stream.write_all(drip);
            let mut block = [0; 4096];
            match stream.read(&mut block) {
                Ok(0) => return String::from_utf8_lossy(&answer).into_owned(),
                Ok(n) => answer.extend(&block[..n]),
                Err(e)
                    if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                Err(_) => return String::from_utf8_lossy(&answer).into_owned(),
            }
        }
        panic!("the connection is still open");
    };
    until_closed(b"", b"");
    until_closed(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", b"x: y\r\n");
    let head = b"POST /scans HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    assert!(until_closed(head, b"").starts_with("HTTP/1.1 408"), "no byte comes");
    assert!(until_closed(head, b"0123456789").starts_with("HTTP/1.1 408"), "too few come");
    let folders = std::fs::read_dir(server.data.join("jobs")).unwrap().count();
    assert_eq!(folders, 0, "nothing is left of them");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_given_up() {
    let limits = RequestLimits { idle: Duration::from_millis(700), ..Choice::default().limits };
    let server = serve(Choice { limits, ..Choice::default() });
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let ask = b"GET /v2/models/mean_probe HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let began = Instant::now();
    let closed = loop {
        match stream.write(&ask) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break true,
        }
        if began.elapsed() > Duration::from_secs(60) {
            break false;
        }
    };
    assert!(closed, "the connection is still open");
}

#[test]
fn connections_and_the_memory_of_requests_have_an_end() {
    let limits = RequestLimits { connections: 3, infer_memory: 2 << 20, ..Choice::default().limits };
    let server = serve(Choice { limits, ..Choice::default() });
    let infer =
        "POST /v2/models/mean_probe/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048575\r\n\r\n";
    let until = Instant::now() + Duration::from_secs(60);
    let mut patience = Duration::from_millis(100);
    // The first request holds the memory once the server has read its head; nothing tells when that is.
    let (hold, busy) = loop {
        let mut hold = TcpStream::connect(server.address).unwrap();
        hold.write_all(infer.as_bytes()).unwrap();
        std::thread::sleep(patience);
        let answer = server.raw(infer.as_bytes());
        if answer.status == 429 || Instant::now() > until {
            break (hold, answer);
        }
        patience *= 3;
    };
    let mut holds = vec![hold];
    assert!(busy.status == 429 && busy.headers.contains_key("retry-after"), "{busy:?}");
    holds.extend((0..2).map(|_| TcpStream::connect(server.address).unwrap()));
    std::thread::sleep(Duration::from_millis(100));
    let mut beyond = TcpStream::connect(server.address).unwrap();
    beyond.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(matches!(beyond.read(&mut [0; 1]), Ok(0) | Err(_)), "closed at once");
    drop(holds);
    while server.try_get("/healthz").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn headers_without_end_are_refused() {
    let server = serve(Choice::default());
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
    assert_eq!(server.raw(long.as_bytes()).status, 431);
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert_eq!(server.raw(many.as_bytes()).status, 431);
    let path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "y".repeat(1_000_000));
    assert!([414, 431].contains(&server.raw(path.as_bytes()).status));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn other_origins_and_other_names_are_refused_and_no_page_is_allowed_anything() {
    let server = serve(Choice::default());
    let with = |name: &str, value: &str, method: &str| server.ask(method, "/jobs", &[(name, value)], b"");
    assert_eq!(with("host", "evil.example", "GET").status, 421);
    assert_eq!(with("host", "ai.hospital.example:8443", "GET").status, 200);
    assert_eq!(with("origin", "http://evil.example", "GET").status, 403);
    assert_eq!(with("origin", "null", "POST").status, 403);
    let preflight = server.ask(
        "OPTIONS",
        "/scans",
        &[("origin", "http://evil.example"), ("access-control-request-method", "POST")],
        b"",
    );
    assert_eq!(preflight.status, 403);
    for answer in [&preflight, &server.get("/jobs"), &server.get("/nowhere")] {
        assert!(answer.headers.keys().all(|name| !name.starts_with("access-control")), "{answer:?}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers["content-security-policy"].starts_with("default-src 'none'"));
    }
}

#[test]
fn a_patients_name_is_told_nowhere_and_html_in_it_is_text() {
    let server = serve(Choice::default());
    let marked = "<script>alert(1)</script>";
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for number in 0..6 {
        zip.start_file(format!("{marked}/{number}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&dicom_slice(number, marked)).unwrap();
    }
    let zip = zip.finish().unwrap().into_inner();
    let answer = server.ask("POST", "/scans", &[], &zip);
    assert_eq!(answer.status, 202, "{answer:?}");
    let (job, _) = server.end(answer.json()["id"].as_str().unwrap());
    assert_eq!(job["state"], "done", "{job}");
    let files: Vec<&str> =
        job["results"][0]["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert!(files.iter().any(|f| f.ends_with("dicom/sr.dcm")), "{files:?}");
    let page = files.iter().find(|f| f.ends_with("report.html")).expect("a report");
    let page = String::from_utf8(server.get(page).body).unwrap();
    assert!(!page.contains(marked) && !page.contains("Doe"), "the page shows neither");
    let record = String::from_utf8(server.get(files[0]).body).unwrap();
    let log = std::fs::read_to_string(server.data.join("audit.jsonl")).unwrap();
    for text in [job.to_string(), record, log] {
        assert!(!text.contains("Doe") && !text.contains("P-4711"), "{text}");
    }
    // In JSON, which no browser takes for a page.
    assert_eq!(
        server.get(&format!("/jobs/{}", job["id"].as_str().unwrap())).headers["content-type"],
        "application/json"
    );
}

/// A CT slice, explicit little endian; `marked` is the patient's name and the series' description.
fn dicom_slice(number: u16, marked: &str) -> Vec<u8> {
    fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        let mut all = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        all.extend(vr.bytes());
        match vr {
            "OW" | "OB" => {
                all.extend([0, 0]);
                all.extend((value.len() as u32).to_le_bytes());
            }
            _ => all.extend((value.len() as u16).to_le_bytes()),
        }
        all.extend(value);
        all
    }
    let (rows, columns) = (20u16, 24u16);
    let text = |tag, vr, value: &str| element(tag, vr, value.as_bytes());
    let number_of = |tag, value: u16| element(tag, "US", &value.to_le_bytes());
    let (class, instance) = ("1.2.840.10008.5.1.4.1.1.2", format!("1.2.3.{number}"));
    let meta = [
        element((2, 1), "OB", &[0, 1]),
        text((2, 2), "UI", class),
        text((2, 3), "UI", &instance),
        text((2, 0x10), "UI", "1.2.840.10008.1.2.1"),
    ]
    .concat();
    let pixels: Vec<u8> = (0..rows * columns)
        .flat_map(|i| {
            let (x, y) = (i % columns, i / columns);
            let inside = (3..20).contains(&x) && (2..17).contains(&y);
            (if inside { (i * (number + 3) % 300) as i16 - 60 } else { -1000 }).to_le_bytes()
        })
        .collect();
    let body = [
        text((8, 8), "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        text((8, 0x16), "UI", class),
        text((8, 0x18), "UI", &instance),
        text((8, 0x60), "CS", "CT"),
        text((8, 0x103e), "LO", marked),
        text((0x10, 0x10), "PN", &format!("Doe^{marked}")),
        text((0x10, 0x20), "LO", "P-4711"),
        text((0x20, 0xd), "UI", "1.2.3.901"),
        text((0x20, 0xe), "UI", "1.2.3.902"),
        text((0x20, 0x11), "IS", "4"),
        text((0x20, 0x13), "IS", &(number + 1).to_string()),
        text((0x20, 0x32), "DS", &format!("0\\0\\{}", number * 12)),
        text((0x20, 0x37), "DS", "1\\0\\0\\0\\1\\0"),
        text((0x20, 0x52), "UI", "1.2.3.903"),
        number_of((0x28, 2), 1),
        text((0x28, 4), "CS", "MONOCHROME2"),
        number_of((0x28, 0x10), rows),
        number_of((0x28, 0x11), columns),
        text((0x28, 0x30), "DS", "9\\9"),
        number_of((0x28, 0x100), 16),
        number_of((0x28, 0x101), 16),
        number_of((0x28, 0x102), 15),
        number_of((0x28, 0x103), 1),
        text((0x28, 0x1052), "DS", "0"),
        text((0x28, 0x1053), "DS", "1"),
        element((0x7fe0, 0x10), "OW", &pixels),
    ]
    .concat();
    let length = element((2, 0), "UL", &(meta.len() as u32).to_le_bytes());
    [vec![0; 128], b"DICM".to_vec(), length, meta, body].concat()
}

#[test]
fn a_client_that_leaves_while_it_waits_costs_nothing() {
    let server = serve(Choice::default());
    let jobs = server.jobs.clone().unwrap();
    // Something to wait behind.
    const JOBS: usize = 30;
    (0..JOBS).for_each(|seed| drop(server.submit(&scan(seed, NEAR))));
    let voxels = vec!["1,2,3,4,5,6"; 800].join(",");
    let body = format!(
        "{{\"inputs\":[{{\"name\":\"voxels\",\"shape\":[10,20,24],\"datatype\":\"FP32\",\"data\":[{voxels}]}},\
         {{\"name\":\"affine\",\"shape\":[4,4],\"datatype\":\"FP64\",\"data\":[9,0,0,0,0,9,0,0,0,0,12,0,0,0,0,1]}}]}}"
    );
    let head = format!(
        "POST /v2/models/mean_probe/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let until = Instant::now() + Duration::from_secs(60);
    while jobs.waiting() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let requests = || std::fs::read_dir(server.data.join("requests")).unwrap().count();
    while requests() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((jobs.waiting(), requests()), (0, 0));
    let metrics = || String::from_utf8(server.get("/metrics").body).unwrap();
    let all = format!("anymc3d_answers_total{{plugin=\"mean_probe\",outcome=\"answered\"}} {JOBS}\n");
    while !metrics().contains(&all) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(metrics().contains(&all), "the jobs alone were computed: {}", metrics());
}
