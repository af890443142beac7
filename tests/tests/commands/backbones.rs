//! `host backbone`: import, verify, remove and pull; licences; tasks on several backbones in one call.

use anymc3d_host::backbone::{Backbone, BackboneInfo, Isa, Precision};
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_tests::{
    edited_library, host_binary, plugin_library, random_weights_on, tiny_backbone, workspace,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// A home folder of its own, and the program on it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(host_binary());
        command.args(arguments).current_dir(self.0.path()).env("ANYMC3D_HOME", self.0.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn host(&self, arguments: &[&str]) -> Ran {
        self.with(arguments, &[])
    }

    /// It ends well; what it printed.
    fn done(&self, arguments: &[&str]) -> String {
        let ran = self.host(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.out
    }

    /// It is refused in one line that says this.
    fn refused(&self, arguments: &[&str], says: &[&str]) {
        let ran = self.host(arguments);
        assert_eq!((ran.code, ran.err.trim_end().lines().count()), (3, 1), "{arguments:?}: {}", ran.err);
        says.iter().for_each(|words| assert!(ran.err.contains(words), "`{words}` is missing: {}", ran.err));
    }

    fn backbones(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("backbones")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten().filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A tiny model of another family, with patches of 16 pixels.
fn other() -> PathBuf {
    workspace().join("tests/fixtures/families/dinov3")
}

#[test]
fn an_imported_backbone_is_found_by_name_verified_and_removed() {
    let home = Home::new();
    let source = home.path("source");
    copy(&other(), &source);
    fs::write(source.join("README.md"), "---\nlicense: apache-2.0\n---\n").unwrap();
    let card: Value =
        serde_json::from_str(&home.done(&["backbone", "import", text(&source), "--name", "tiny", "--json"]))
            .unwrap();
    assert_eq!((&card["family"], &card["licence"]["name"]), (&"dinov3".into(), &"apache-2.0".into()));
    // What is no part of the model stays behind.
    assert!(source.join("expected.safetensors").exists());
    assert!(!home.path("backbones/tiny/expected.safetensors").exists());
    let listed = home.done(&["backbone", "list"]);
    assert!(listed.contains("tiny") && listed.contains("apache-2.0"), "{listed}");
    let shown: Value = serde_json::from_str(&home.done(&["backbone", "inspect", "tiny", "--json"])).unwrap();
    assert_eq!(shown["fingerprint"], card["fingerprint"]);
    assert!(home.done(&["backbone", "verify", "tiny"]).contains("as they were imported"));
    home.refused(
        &["backbone", "import", text(&source), "--name", "tiny"],
        &["there is a backbone of this name"],
    );
    home.refused(&["backbone", "import", text(&source), "--name", "../tiny"], &["no backbone's name"]);
    // A bit of the weights that no header checks.
    let weights = home.path("backbones/tiny/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let ran = home.host(&["backbone", "verify", "tiny"]);
    assert!(ran.code == 3 && ran.err.contains("model.safetensors: sha256"), "{}", ran.err);
    assert!(ran.err.contains("fingerprint"), "{}", ran.err);
    home.done(&["backbone", "remove", "tiny"]);
    assert!(home.backbones().is_empty());
    home.refused(&["backbone", "remove", "tiny"], &["no backbone was imported by this name"]);
}

#[test]
fn what_does_not_open_is_not_imported_and_leaves_nothing() {
    let home = Home::new();
    let bare = home.path("bare");
    copy(&other(), &bare);
    fs::remove_file(bare.join("expected.safetensors")).unwrap();
    fs::remove_file(bare.join("preprocessor_config.json")).unwrap();
    let import = ["backbone", "import", text(&bare), "--name", "tiny"];
    let missing = bare.join("preprocessor_config.json");
    home.refused(&import, &["image_mean", text(&missing)]);
    assert!(home.backbones().is_empty());
    // Told by hand, it is complete; a single file brings what describes it.
    let file = bare.join("model.safetensors");
    let told = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"];
    home.done(&[&["backbone", "import", text(&file), "--name", "tiny"][..], &told].concat());
    assert_eq!(home.backbones(), ["tiny"]);
    fs::copy(other().join("preprocessor_config.json"), bare.join("preprocessor_config.json")).unwrap();
    fs::rename(&file, bare.join("pytorch_model.bin")).unwrap();
    home.refused(
        &["backbone", "import", text(&bare), "--name", "pickle"],
        &["pytorch_model.bin", "save_file"],
    );
    assert_eq!(home.backbones(), ["tiny"]);
}

const SHAPE: [usize; 3] = [24, 20, 10];

fn chest(path: &Path) {
    let voxels: Vec<i16> =
        (0..SHAPE.iter().product()).map(|i: usize| (i * 7919 % 900) as i16 - 850).collect();
    let affine = Affine::aligned([12.0, 12.0, 20.0], [-140.0, -120.0, -100.0]);
    write_nifti_i16(path, &voxels, SHAPE, &affine).unwrap();
}

/// The shipped task under a name as long as its own, of few slices whose sides both patch sizes divide, with weights on a
/// backbone.
fn task(folder: &Path, name: &str, backbone: &BackboneInfo) -> PathBuf {
    let library = folder.join(format!("{name}.so"));
    let family = format!("families = [\"{}\"]", backbone.family);
    let edits = [
        ("slices = 40", "slices =  4"),
        ("size = [168, 168]", "size = [112, 112]"),
        ("families = [\"dinov2\"]", &family),
        ("min_embed_dim = 384", "min_embed_dim =  16"),
    ];
    let named = format!("name = \"{name}\"");
    edited_library(&plugin_library("lung_nodule"), &edits, &library);
    if name != "lung_nodule" {
        edited_library(&library.clone(), &[("name = \"lung_nodule\"", &named)], &library);
    }
    random_weights_on(backbone, &library, &folder.join(format!("{name}.safetensors")), 3, |_, _| {});
    library
}

fn info_of(folder: &Path) -> BackboneInfo {
    Backbone::open(folder, Precision::F32).unwrap().info().clone()
}

#[test]
fn tasks_on_two_backbones_run_in_one_call_and_say_which_is_whose() {
    let home = Home::new();
    home.done(&["backbone", "import", text(&tiny_backbone()), "--name", "registers"]);
    home.done(&["backbone", "import", text(&other()), "--name", "rotary"]);
    let [registers, rotary] = ["registers", "rotary"].map(|name| info_of(&home.path("backbones").join(name)));
    let first = task(home.0.path(), "lung_nodule", &registers);
    let second = task(home.0.path(), "lung_rotary", &rotary);
    let scan = home.path("scan.nii");
    chest(&scan);
    let both = ["run", "--plugin", text(&first), "--plugin", text(&second), "--json", text(&scan)];
    let results =
        |printed: &str| -> Vec<Value> { printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect() };
    let together = results(&home.done(&both));
    assert_eq!(together.len(), 2);
    for (result, (library, backbone)) in together.iter().zip([(&first, "registers"), (&second, "rotary")]) {
        let alone = results(&home.done(&[
            "run",
            "--plugin",
            text(library),
            "--backbone",
            backbone,
            "--json",
            text(&scan),
        ]));
        assert_eq!(result["plugin"]["name"], alone[0]["plugin"]["name"]);
        assert_eq!(result["predictions"], alone[0]["predictions"]);
        assert_eq!(result["backbone"], alone[0]["backbone"]);
    }
    let plan = home.done(&[&both[..5], &["--explain-plan"]].concat());
    assert!(plan.contains("backbone registers ") && plan.contains("backbone rotary "), "{plan}");
    let memory: Vec<Value> = results(&home.done(&[&both[..6], &["--explain-plan"]].concat()));
    let users = |i: usize| memory[i]["memory"]["task_bytes"][0][0].as_str().unwrap().to_owned();
    assert_eq!((users(0), users(1)), ("lung_nodule".to_owned(), "lung_rotary".to_owned()));
    // Given by name, all tasks run on it, and the one that was trained elsewhere is refused.
    let ran = home.host(&[&both[..], &["--backbone", "rotary"]].concat());
    assert!(ran.code == 3 && ran.err.contains("trained on backbone registers"), "{}", ran.err);
    assert_eq!(results(&ran.out).len(), 1);
}

#[test]
fn a_quantised_backbone_predicts_in_8_bits_where_the_processor_can_and_results_say_which_file() {
    let home = Home::new();
    home.done(&["backbone", "import", text(&tiny_backbone()), "--name", "registers"]);
    let folder = home.path("backbones").join("registers");
    if !Isa::available().iter().any(|isa| isa.has_vnni()) {
        home.refused(&["backbone", "quantise", "registers"], &["VNNI", "int16"]);
        return;
    }
    let library = task(home.0.path(), "lung_nodule", &info_of(&folder));
    let scan = home.path("scan.nii");
    chest(&scan);
    let run = |more: &[&str]| -> Value {
        let printed =
            home.done(&[&["run", "--plugin", text(&library), "--json", text(&scan)], more].concat());
        serde_json::from_str::<Value>(printed.lines().next().unwrap()).unwrap()["backbone"].clone()
    };
    assert_eq!(run(&["--precision", "int8"])["quantised_sha256"], Value::Null);
    let record: Value =
        serde_json::from_str(&home.done(&["backbone", "quantise", "registers", "--json"])).unwrap();
    let file = folder.join("int8.safetensors");
    assert_eq!(record["path"], text(&file));
    let lowest = record["lowest_cosine"].as_f64().unwrap();
    assert!(lowest > 0.99 && lowest <= record["mean_cosine"].as_f64().unwrap(), "{record}");
    let digest: String =
        Sha256::digest(fs::read(&file).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    let chosen = run(&["--precision", "int8"]);
    assert_eq!(
        (chosen["precision"].as_str(), chosen["quantised_sha256"].as_str()),
        (Some("int8"), Some(&*digest))
    );
    assert_eq!(run(&["--precision", "int8", "--isolate"]), chosen);
    // By itself it is taken where it was found to be near enough, in this process and in another.
    let auto = [run(&[]), run(&["--isolate"])];
    for backbone in auto {
        assert_eq!(backbone["precision"] == "int8", lowest >= 0.999, "{backbone} {record}");
    }
    assert_ne!(run(&["--precision", "f32"])["precision"], "int8");
    // What the backbone was imported with is as it was.
    home.done(&["backbone", "verify", "registers"]);
}

#[cfg(unix)]
#[test]
fn tasks_on_two_backbones_run_isolated_in_one_call_and_the_process_says_what_it_holds() {
    let home = Home::new();
    home.done(&["backbone", "import", text(&tiny_backbone()), "--name", "registers"]);
    let source = home.path("source");
    copy(&other(), &source);
    fs::write(source.join("LICENSE.md"), "Terms that bind whoever derives from the model.").unwrap();
    home.done(&["backbone", "import", text(&source), "--name", "rotary"]);
    let [registers, rotary] = ["registers", "rotary"].map(|name| info_of(&home.path("backbones").join(name)));
    let first = task(home.0.path(), "lung_nodule", &registers);
    let second = task(home.0.path(), "lung_rotary", &rotary);
    let scan = home.path("scan.nii");
    chest(&scan);
    let results =
        |printed: &str| -> Vec<Value> { printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect() };
    let both = ["run", "--plugin", text(&first), "--plugin", text(&second), "--json", text(&scan)];
    let isolated = [&both[..], &["--isolate", "--max-memory", "3G", "--threads", "1"]].concat();
    // Of two backbones one is not allowed: its task is refused, the other answers.
    let ran = home.host(&isolated);
    assert!(ran.code == 3 && ran.err.contains("its licence"), "{}", ran.err);
    assert_eq!(results(&ran.out).len(), 1);
    let ran = home.host(&[&isolated[..], &["--accept-licence"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let here = results(&home.done(&both));
    let apart = results(&ran.out);
    assert_eq!((here.len(), apart.len()), (2, 2), "{}", ran.err);
    for (here, apart) in here.iter().zip(&apart) {
        assert_eq!(here["backbone"], apart["backbone"]);
        assert_eq!(here["predictions"], apart["predictions"]);
    }
    for held in ["backbone registers", "backbone rotary", "lung_nodule ", "lung_rotary "] {
        let told = ran.err.lines().filter(|l| l.contains("the plugins' process holds"));
        assert!(told.clone().any(|l| l.contains(held) && l.contains("MiB")), "{held}: {}", ran.err);
    }
    // The limit is that of the process with both.
    let ran = home.host(&[&both[..], &["--isolate", "--max-memory", "30M"]].concat());
    assert!(ran.code == 3 && ran.err.contains("--max-memory"), "{} {}", ran.code, ran.err);
}

#[test]
fn a_licence_that_binds_is_asked_once_and_recorded() {
    let home = Home::new();
    let source = home.path("source");
    copy(&tiny_backbone(), &source);
    fs::write(source.join("LICENSE.md"), "Terms that bind whoever derives from the model.").unwrap();
    let imported = home.done(&["backbone", "import", text(&source), "--name", "bound"]);
    assert!(imported.contains("must be accepted"), "{imported}");
    let library = task(home.0.path(), "lung_nodule", &info_of(&home.path("backbones/bound")));
    let scan = home.path("scan.nii");
    chest(&scan);
    let run = ["run", "--plugin", text(&library), text(&scan)];
    home.refused(&run, &["bound", "LICENSE.md", "--accept-licence"]);
    assert!(!home.path("accepted_licences.json").exists());
    home.done(&[&run[..], &["--accept-licence"]].concat());
    let record = fs::read_to_string(home.path("accepted_licences.json")).unwrap();
    assert!(record.contains("bound") && record.contains("unnamed"), "{record}");
    home.done(&run);
    // Another text is another licence.
    home.done(&["backbone", "remove", "bound"]);
    fs::write(source.join("LICENSE.md"), "Other terms.").unwrap();
    home.done(&["backbone", "import", text(&source), "--name", "bound"]);
    home.refused(&run, &["--accept-licence"]);
}

/// A static server of one repository on loopback.
struct Server {
    address: String,
    /// Lines of every request: its path, range and authorisation.
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The first answer with weights ends in the middle.
    EndsEarly,
    /// The list tells another digest of the weights.
    WrongDigest,
    /// Every answer with weights ends after the same bytes.
    Truncated,
}

impl Server {
    fn start(folder: &Path, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let names = ["config.json", "preprocessor_config.json", "model.safetensors"];
        let mut files: HashMap<String, Vec<u8>> =
            names.iter().map(|name| ((*name).to_owned(), fs::read(folder.join(name)).unwrap())).collect();
        files.insert("pytorch_model.bin".into(), vec![0; 10]);
        files.insert("README.md".into(), b"---\nlicense: mit\n---\n".to_vec());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            let mut weights = 0;
            for stream in listener.incoming().flatten() {
                answer(stream, &files, fault, &seen, &mut weights);
            }
        });
        Self { address, asked }
    }
}

fn answer(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    fault: Fault,
    seen: &Mutex<Vec<String>>,
    weights: &mut usize,
) {
    let (mut path, mut from, mut told) = (String::new(), 0, String::new());
    for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("GET ") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut path);
        } else if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        } else if lower.starts_with("authorization") {
            told = line.clone();
        }
    }
    seen.lock().unwrap().push(format!("{path} from {from} {told}"));
    if told.is_empty() {
        let _ =
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let body = if path == "/api/models/some/model/tree/main" {
        let entry = |(name, bytes): (&String, &Vec<u8>)| {
            let mut digest = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
            if fault == Fault::WrongDigest {
                digest = "0".repeat(64);
            }
            let large = name.ends_with(".safetensors");
            let lfs = large.then(|| serde_json::json!({ "oid": digest, "size": bytes.len() }));
            serde_json::json!({ "type": "file", "path": name, "size": bytes.len(), "lfs": lfs })
        };
        serde_json::to_vec(&files.iter().map(entry).collect::<Vec<_>>()).unwrap()
    } else {
        path.strip_prefix("/some/model/resolve/main/")
            .and_then(|name| files.get(name))
            .cloned()
            .unwrap_or_default()
    };
    let (status, rest) =
        if from > 0 { ("206 Partial Content", &body[from..]) } else { ("200 OK", &body[..]) };
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len().saturating_sub(1), body.len());
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n", rest.len());
    let _ = stream.write_all(head.as_bytes());
    let mut sent = rest;
    if path.ends_with(".safetensors") {
        *weights += 1;
        match fault {
            Fault::EndsEarly if *weights == 1 => sent = &rest[..rest.len() / 2],
            Fault::Truncated => sent = &rest[..rest.len().min(1000usize.saturating_sub(from))],
            _ => {}
        }
    }
    let _ = stream.write_all(sent);
}

const TOKEN: [(&str, &str); 1] = [("ANYMC3D_HUB_TOKEN", "secret")];

#[test]
fn a_pulled_backbone_is_gone_on_with_checked_and_imported() {
    let home = Home::new();
    let server = Server::start(&other(), Fault::EndsEarly);
    let pull = ["backbone", "pull", "some/model", "--name", "pulled", "--from", &server.address];
    let ran = home.host(&pull);
    assert!(ran.code != 0 && ran.err.contains("ANYMC3D_HUB_TOKEN"), "{}", ran.err);
    let ran = home.with(&pull, &TOKEN);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(home.backbones(), ["pulled"]);
    let asked = server.asked.lock().unwrap().clone();
    let of_weights: Vec<&String> = asked.iter().filter(|a| a.contains(".safetensors")).collect();
    assert!(of_weights.len() == 2 && !of_weights[1].contains(" from 0 "), "{asked:?}");
    assert!(!asked.iter().any(|a| a.contains(".bin")), "{asked:?}");
    let shown: Value =
        serde_json::from_str(&home.done(&["backbone", "inspect", "pulled", "--json"])).unwrap();
    assert!(shown["source"].as_str().unwrap().contains("some/model at main"), "{shown}");
    assert_eq!(shown["licence"]["name"], "mit");
    assert_eq!(shown["fingerprint"], info_of(&other()).fingerprint.as_str());
    home.done(&["backbone", "verify", "pulled"]);
}

#[test]
fn a_download_of_other_bytes_or_too_few_is_refused_and_no_backbone_is_there() {
    for (fault, says) in [(Fault::WrongDigest, "000000000000"), (Fault::Truncated, "ended after")] {
        let home = Home::new();
        let server = Server::start(&other(), fault);
        let pull = ["backbone", "pull", "some/model", "--name", "pulled", "--from", &server.address];
        let ran = home.with(&pull, &TOKEN);
        assert!(ran.code != 0 && ran.err.contains(says), "{}", ran.err);
        assert_eq!(ran.err.trim_end().lines().count(), 1, "{}", ran.err);
        assert!(!home.path("backbones/pulled").exists());
        assert!(!home.done(&["backbone", "list"]).contains("pulled"));
    }
}
