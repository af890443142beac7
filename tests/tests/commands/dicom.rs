//! DICOM as INPUT: studies become cases, the series that fits is chosen, and nobody's identity is written anywhere.

mod objects;
mod report;

use anymc3d_host::scan::dicom::DicomInput;
use anymc3d_host::scan::{Scan, slices};
use anymc3d_manifest::Manifest;
use anymc3d_tests::{data, edited_library, host_binary, plugin_library, random_weights, required, workspace};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The built binary; one plugin for CT and one for MR, both small and with random weights.
struct Bench {
    host: PathBuf,
    ct: PathBuf,
    mr: PathBuf,
    _folder: tempfile::TempDir,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (ct, mr) = (folder.path().join("ct.so"), folder.path().join("mr.so"));
        let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
        edited_library(&plugin_library("lung_nodule"), &few, &ct);
        let other = [
            ("name = \"lung_nodule\"", "name = \"lung_of_mr\" "),
            ("modality = \"CT\"", "modality = \"MR\""),
        ];
        edited_library(&ct, &other, &mr);
        random_weights(&ct, &folder.path().join("lung_nodule.safetensors"), 1, |_, _| {});
        random_weights(&mr, &folder.path().join("lung_of_mr.safetensors"), 2, |_, _| {});
        Bench { host: host_binary(), ct, mr, _folder: folder }
    })
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn results(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn host<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    let home = workspace().join("target").join("no-such-home");
    let mut command = Command::new(&bench().host);
    command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", home);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// `host run --plugin PLUGIN …`
fn run(plugin: &Path, arguments: &[&str]) -> Ran {
    let all = ["run", "--plugin", text(plugin)].into_iter().chain(arguments.iter().copied());
    host(all)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn example() -> Option<PathBuf> {
    required(data(), "example_ct_dicom")
}

fn logits(result: &Value) -> Vec<f64> {
    let all = result["predictions"].as_array().unwrap();
    all.iter().map(|p| p["logit"].as_f64().unwrap()).collect()
}

/// Names and ids that stand in headers and file names; none may come out again.
const PLANTED: [&str; 8] =
    ["ZEBRA", "QUAGGA", "PID4711", "19330202", "ST ELSEWHERE", "1.2.826.99.7777", "KEEPOUT", "secretword"];

/// What a made series says.
#[derive(Clone)]
struct Made {
    study: &'static str,
    number: u32,
    modality: &'static str,
    description: &'static str,
    slices: usize,
}

const CT: Made =
    Made { study: "1.2.826.99.7777.1", number: 2, modality: "CT", description: "KEEPOUT thorax", slices: 8 };

/// One slice as an explicit little endian file, with identity wherever a hospital puts it.
fn instance(of: &Made, slice: usize) -> Vec<u8> {
    const SIDE: u16 = 24;
    let uid = |n: usize| format!("{}.{}.{n}", of.study, of.number);
    let class = match of.modality {
        "CT" => "1.2.840.10008.5.1.4.1.1.2",
        "MR" => "1.2.840.10008.5.1.4.1.1.4",
        _ => "1.2.840.10008.5.1.4.1.1.88.33",
    };
    let mut bytes = vec![0u8; 128];
    bytes.extend(b"DICM");
    let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(vr);
        if matches!(vr, b"OW" | b"OB" | b"UN") {
            bytes.extend([0, 0]);
            bytes.extend((value.len() as u32).to_le_bytes());
        } else {
            bytes.extend((value.len() as u16).to_le_bytes());
        }
        bytes.extend(value);
    };
    put(2, 0x10, b"UI", b"1.2.840.10008.1.2.1");
    put(8, 0x08, b"CS", b"ORIGINAL\\PRIMARY\\AXIAL");
    put(8, 0x16, b"UI", class.as_bytes());
    put(8, 0x18, b"UI", uid(slice + 10).as_bytes());
    put(8, 0x60, b"CS", of.modality.as_bytes());
    put(8, 0x80, b"LO", b"ST ELSEWHERE");
    put(8, 0x90, b"PN", b"QUAGGA^REFERRING");
    put(8, 0x1030, b"LO", b"ZEBRA study");
    put(8, 0x103E, b"LO", of.description.as_bytes());
    put(9, 0x10, b"LO", b"ZEBRA PRIVATE");
    put(9, 0x1001, b"LO", b"secretword");
    put(0x10, 0x10, b"PN", b"ZEBRA^QUAGGA");
    put(0x10, 0x20, b"LO", b"PID4711");
    put(0x10, 0x30, b"DA", b"19330202");
    put(0x18, 0x50, b"DS", b"5");
    put(0x20, 0x0D, b"UI", of.study.as_bytes());
    put(0x20, 0x0E, b"UI", uid(1).as_bytes());
    put(0x20, 0x11, b"IS", of.number.to_string().as_bytes());
    put(0x20, 0x13, b"IS", (slice + 1).to_string().as_bytes());
    if !matches!(of.modality, "CT" | "MR") {
        return bytes;
    }
    put(0x20, 0x32, b"DS", format!("-24\\-24\\{}", 4 * slice).as_bytes());
    put(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0");
    put(0x20, 0x52, b"UI", uid(2).as_bytes());
    put(0x28, 0x02, b"US", &1u16.to_le_bytes());
    put(0x28, 0x04, b"CS", b"MONOCHROME2");
    put(0x28, 0x10, b"US", &SIDE.to_le_bytes());
    put(0x28, 0x11, b"US", &SIDE.to_le_bytes());
    put(0x28, 0x30, b"DS", b"2\\2");
    put(0x28, 0x100, b"US", &16u16.to_le_bytes());
    put(0x28, 0x101, b"US", &12u16.to_le_bytes());
    put(0x28, 0x102, b"US", &11u16.to_le_bytes());
    put(0x28, 0x103, b"US", &0u16.to_le_bytes());
    put(0x28, 0x1052, b"DS", b"-1024");
    put(0x28, 0x1053, b"DS", b"1");
    let pixel = |i: u16| -> u16 {
        let (x, y) = (i % SIDE, i / SIDE);
        let inside = (4..20).contains(&x) && (4..20).contains(&y);
        if inside {
            1000 + (x * 3 + y * 5 + slice as u16 * 7 + of.number as u16) % 120
        } else {
            20 + (x + y) % 9
        }
    };
    let pixels: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| pixel(i).to_le_bytes()).collect();
    put(0x7FE0, 0x10, b"OW", &pixels);
    bytes
}

/// Writes a series into a folder, its files called by the patient.
fn write_series(folder: &Path, of: &Made) {
    fs::create_dir_all(folder).unwrap();
    for slice in 0..of.slices {
        let name = format!("ZEBRA^QUAGGA_{}_{}.dcm", of.number, (slice * 5) % 8);
        fs::write(folder.join(name), instance(of, slice)).unwrap();
    }
}

fn zip(folder: &Path, to: &Path) {
    let mut zip = zip::ZipWriter::new(fs::File::create(to).unwrap());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("export/{}", path.file_name().unwrap().to_string_lossy()), options).unwrap();
        zip.write_all(&fs::read(path).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_folder_a_zip_and_renamed_files_among_others_are_the_same_scan() {
    let Some(example) = example() else { return };
    let place = tempfile::tempdir().unwrap();
    let (packed, mixed) = (place.path().join("export.zip"), place.path().join("mixed"));
    zip(&example, &packed);
    fs::create_dir_all(mixed.join("deep/er")).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(&example).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for (i, file) in files.iter().enumerate() {
        let below = if i % 3 == 0 { "deep/er" } else { "deep" };
        fs::copy(file, mixed.join(below).join(format!("{:03}", (i * 7) % files.len()))).unwrap();
    }
    fs::write(mixed.join("deep/notes.txt"), "no DICOM in this file, but a line of text").unwrap();
    fs::write(mixed.join("deep/0000"), instance(&Made { modality: "SR", slices: 1, ..CT }, 0)).unwrap();

    let inputs = [text(&example), text(&packed), text(&mixed)];
    let salt = place.path().join("salt");
    fs::write(&salt, "a salt that is long enough").unwrap();
    let mut arguments = vec!["--json", "--id-salt", text(&salt)];
    arguments.extend(inputs);
    let ran = run(&bench().ct, &arguments);
    let results = ran.results();
    // The report is of a study of its own, which has nothing to show.
    assert_eq!(results.len(), 3, "{ran:#?}");
    assert!(ran.err.contains("1 × text"), "{ran:#?}");
    for other in &results[1..] {
        assert_eq!(other["input"]["sha256"], results[0]["input"]["sha256"]);
        assert_eq!(other["predictions"], results[0]["predictions"]);
        assert_eq!(other["case"], results[0]["case"]);
    }
    let input = &results[0]["input"];
    assert_eq!((input["modality"].as_str(), input["shape"][2].as_u64()), (Some("CT"), Some(20)), "{input}");
    // Its thickness is 3 mm.
    assert!((input["spacing_mm"][2].as_f64().unwrap() - 2.0).abs() < 1e-6, "{input}");
    let voxels = inputs.map(|i| Scan::open(&studied(i)).unwrap().voxels);
    assert!(voxels[0] == voxels[1] && voxels[0] == voxels[2]);
}

/// Of an input with several studies the one that has series.
fn studied(path: &str) -> PathBuf {
    let input = DicomInput::look(path.as_ref()).unwrap().unwrap();
    let study = input.headers().studies.iter().position(|s| !s.series.is_empty()).unwrap();
    PathBuf::from(format!("{path}#study={}", study + 1))
}

#[test]
fn what_dcm2niix_makes_of_a_series_gives_the_same_slices_and_logits() {
    let Some(example) = example() else { return };
    let tool = std::env::var_os("ANYMC3D_DCM2NIIX").unwrap_or("dcm2niix".into());
    let place = tempfile::tempdir().unwrap();
    let mut convert = Command::new(tool);
    convert.args(["-z", "n", "-f", "made", "-o"]).arg(place.path()).arg(&example);
    let Ok(made) = convert.output() else {
        println!("skipped: no dcm2niix; name one in $ANYMC3D_DCM2NIIX");
        return;
    };
    let nifti = place.path().join("made.nii");
    assert!(nifti.is_file(), "{}", String::from_utf8_lossy(&made.stdout));
    let ran = run(&bench().ct, &["--json", text(&example), text(&nifti)]);
    let results = ran.results();
    let (ours, theirs) = (logits(&results[0]), logits(&results[1]));
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-3), "{ours:?} {theirs:?}");
    let manifest = anymc3d_host::plugin::inspect(&bench().ct).unwrap().embedded.manifest;
    let cut = |path: &Path| {
        let (_, volume) = Scan::open(path).unwrap().into_canonical();
        slices(&volume, &manifest.views[0], 14).unwrap().pixels
    };
    let (ours, theirs) = (cut(&example), cut(&nifti));
    let most = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(ours.len() == theirs.len() && most <= 1e-4, "{most}");
}

/// Every text and file that a call left behind.
fn everything(ran: &Ran, out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("stdout".into(), ran.out.clone().into()), ("stderr".into(), ran.err.clone().into())];
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(out).unwrap().display().to_string();
            all.push((format!("the name {name}"), name.clone().into()));
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            if bytes.starts_with(&[0x1F, 0x8B]) {
                let mut unpacked = Vec::new();
                flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
                all.push((format!("{name}, unpacked"), unpacked));
            }
            // Packed numbers as text hold any five letters sooner or later.
            let bytes = if name.ends_with(".html") { without_packed(&bytes) } else { bytes };
            all.push((name, bytes));
        }
    }
    all
}

/// A page without its long runs of base64.
fn without_packed(page: &[u8]) -> Vec<u8> {
    let packed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let runs = page.chunk_by(|a, b| packed(a) == packed(b));
    runs.filter(|run| run.len() < 200 || !packed(&run[0])).flatten().copied().collect()
}

fn assert_anonymous(ran: &Ran, out: &Path) {
    let all = everything(ran, out);
    for (name, bytes) in &all {
        for planted in PLANTED {
            let found = bytes.windows(planted.len()).any(|w| w.eq_ignore_ascii_case(planted.as_bytes()));
            assert!(!found, "{planted} in {name}: {}", String::from_utf8_lossy(bytes));
        }
    }
}

#[test]
fn planted_identity_comes_out_nowhere_but_where_it_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let (export, out) = (place.path().join("export"), place.path().join("out"));
    write_series(&export.join("one"), &CT);
    write_series(&export.join("one"), &Made { number: 3, modality: "SR", slices: 1, ..CT });
    // Another study, whose series is cut short and one slice of which ends in the middle.
    let second = Made { study: "1.2.826.99.7777.2", ..CT };
    write_series(&export.join("QUAGGA"), &second);
    fs::write(export.join("QUAGGA/ZEBRA_short.dcm"), &instance(&second, 3)[..700]).unwrap();
    let third = Made { study: "1.2.826.99.7777.3", modality: "MR", ..CT };
    write_series(&export.join("third"), &third);

    for extra in [&["--json", "-v"][..], &["--heatmap", "-v"], &["--isolate"]] {
        let mut arguments = vec![text(&export), "--out", text(&out)];
        arguments.extend(extra);
        let ran = run(&bench().ct, &arguments);
        assert_eq!(ran.code, 0, "{ran:#?}");
        assert!(ran.err.contains("is skipped: lung_nodule: view axial"), "{ran:#?}");
        assert_anonymous(&ran, &out);
    }
    let cases: Vec<String> = names(&out).into_iter().filter(|n| n != "id-salt").collect();
    assert_eq!(cases.len(), 2, "{cases:?}");
    assert!(cases.iter().all(|c| c.len() == 16 && c.bytes().all(|b| b.is_ascii_hexdigit())), "{cases:?}");

    // A damaged series, a doctor, and a plugin that nothing fits.
    let bad = place.path().join("bad");
    write_series(&bad, &Made { slices: 2, ..CT });
    fs::write(bad.join("ZEBRA_x.dcm"), &instance(&CT, 7)[..1500]).unwrap();
    for arguments in [
        vec!["run", "--plugin", text(&bench().ct), text(&bad), "--json"],
        vec!["run", "--plugin", text(&bench().mr), text(&bad)],
        vec!["doctor", text(&export), "--plugin", text(&bench().ct)],
        vec!["doctor", text(&export), "--plugin", text(&bench().ct), "--json"],
    ] {
        assert_anonymous(&host(arguments), &place.path().join("nothing"));
    }
    let kept = run(&bench().ct, &[text(&export), "--keep-identity", "--json"]).results();
    assert_eq!(kept[0]["case"], "PID4711-1.2.826.99.7777.1");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_that_fits_is_one_line_and_a_failure_and_the_users_own_series_is_taken_with_a_warning() {
    let place = tempfile::tempdir().unwrap();
    write_series(place.path(), &CT);
    write_series(place.path(), &Made { number: 5, slices: 6, ..CT });
    let ran = run(&bench().mr, &[text(place.path())]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:#?}");
    assert_eq!(ran.err.lines().filter(|l| l.starts_with("error")).count(), 1, "{ran:#?}");
    assert!(ran.err.contains("modality is CT, asked for is MR"), "{ran:#?}");

    let ran = run(&bench().mr, &[text(place.path()), "--series", "5", "--json"]);
    let results = ran.results();
    assert_eq!(results[0]["input"]["shape"][2], 6, "{ran:#?}");
    assert!(results[0]["input"]["path"].as_str().unwrap().ends_with("#series=5"), "{ran:#?}");
    assert!(ran.err.contains("warning:") && ran.err.contains("modality is CT, asked for is MR"), "{ran:#?}");
    assert!(
        results[0]["warnings"].to_string().contains("the scan is CT, the task was made for MR"),
        "{ran:#?}"
    );

    // Without a word of the user's the larger of two that fit.
    let ran = run(&bench().ct, &[text(place.path()), "--json"]);
    assert_eq!(ran.results()[0]["input"]["shape"][2], 8, "{ran:#?}");
    assert!(ran.err.contains("view axial: series 2 (8 slices every 4.00 mm, axial)"), "{ran:#?}");
    for wrong in ["7", "1.2.3.4"] {
        let ran = run(&bench().ct, &[text(place.path()), "--series", wrong]);
        assert_eq!(ran.code, 1, "{ran:#?}");
        assert!(ran.err.contains("there are series 2, series 5"), "{ran:#?}");
    }
    assert_eq!(run(&bench().ct, &[text(place.path()), "--series", "nonsense"]).code, 2);
    assert_eq!(run(&bench().ct, &[text(place.path()), "--series", "sagittal=2"]).code, 2);
}

#[test]
fn a_zip_in_a_zip_is_told_and_not_opened() {
    let place = tempfile::tempdir().unwrap();
    let (series, outer) = (place.path().join("series"), place.path().join("outer"));
    write_series(&series, &CT);
    fs::create_dir(&outer).unwrap();
    zip(&series, &outer.join("inner.zip"));
    let packed = place.path().join("outer.zip");
    zip(&outer, &packed);
    let ran = run(&bench().ct, &[text(&packed)]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.err.contains("no DICOM study in it; found files of other kinds: 1 zip"), "{ran:#?}");
    assert!(ran.err.contains("is not opened: unpack it, or name it itself"), "{ran:#?}");
}

#[test]
fn two_plugins_take_different_studies_of_one_folder() {
    let place = tempfile::tempdir().unwrap();
    write_series(&place.path().join("a"), &CT);
    write_series(&place.path().join("b"), &Made { study: "1.2.826.99.7777.5", modality: "MR", ..CT });
    let both = ["--plugin", text(&bench().mr), text(place.path()), "--json"];
    let ran = run(&bench().ct, &both);
    let results = ran.results();
    let of = |plugin: &str| -> Vec<Value> {
        results
            .iter()
            .filter(|r| r["plugin"]["name"] == plugin)
            .map(|r| r["input"]["modality"].clone())
            .collect()
    };
    let only = |modality: &str| vec![Value::from(modality)];
    assert_eq!((of("lung_nodule"), of("lung_of_mr")), (only("CT"), only("MR")), "{ran:#?}");
    assert!(ran.err.contains("skipped by lung_of_mr"), "{ran:#?}");
}

#[test]
fn nifti_beside_dicom_and_series_in_a_table_are_cases_too() {
    let place = tempfile::tempdir().unwrap();
    let study = place.path().join("study");
    write_series(&study, &CT);
    write_series(&study, &Made { number: 5, slices: 6, ..CT });
    let scan = Scan::open(&PathBuf::from(format!("{}#series=2", study.display()))).unwrap();
    let nifti = study.join("beside.nii");
    anymc3d_host::scan::write_nifti_f32(&nifti, &scan.voxels, scan.shape, &scan.affine).unwrap();
    let results = run(&bench().ct, &[text(&study), "--json"]).results();
    assert_eq!(results.len(), 2);
    assert_eq!(results[1]["case"], "beside");
    assert_eq!(results[0]["predictions"], results[1]["predictions"]);
    fs::remove_file(&nifti).unwrap();

    let table = place.path().join("table.csv");
    fs::write(&table, "case,image\nfolder,study\nnamed,study#series=5\nabsent,study#series=9\n").unwrap();
    let ran = run(&bench().ct, &[text(&table), "--json"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    let lines: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        (&lines[0]["case"], &lines[0]["input"]["shape"][2]),
        (&"folder".into(), &8.into()),
        "{ran:#?}"
    );
    assert_eq!((&lines[1]["case"], &lines[1]["input"]["shape"][2]), (&"named".into(), &6.into()), "{ran:#?}");
    assert!(lines[2]["error"].as_str().unwrap().contains("series 2, series 5"), "{ran:#?}");
}

#[test]
fn processes_that_share_an_output_folder_give_a_study_one_name() {
    let place = tempfile::tempdir().unwrap();
    let (study, out) = (place.path().join("study"), place.path().join("out"));
    write_series(&study, &CT);
    let case = |arguments: &[&str]| {
        let mut all = vec![text(&study), "--json"];
        all.extend(arguments);
        run(&bench().ct, &all).results()[0]["case"].as_str().unwrap().to_owned()
    };
    let shared = ["--out", text(&out), "--heatmap=false"];
    let (first, second) = (case(&shared), case(&shared));
    assert_eq!(first, second);
    assert_ne!(case(&[]), case(&[]));
    let salt = out.join("id-salt");
    assert_eq!(case(&["--id-salt", text(&salt)]), first);
}

#[test]
fn the_sequences_of_one_study_fill_the_views_by_themselves() {
    let place = tempfile::tempdir().unwrap();
    let mr = |number, description| Made { number, description, modality: "MR", ..CT };
    for made in [mr(1, "AX FLAIR"), mr(2, "AX T2 FSE"), mr(3, "AX T1 SE"), mr(4, "AX T1 SE post contrast")] {
        write_series(place.path(), &made);
    }
    let view = |name: &str, more: &str| {
        format!(
            "[[view]]\nname = \"{name}\"\nmodality = \"MR\"\naxis = \"axial\"\nslices = 4\nsize = [56, 56]\n{more}\
             intensity = {{ kind = \"percentile\", low = 0.5, high = 99.5 }}\n"
        )
    };
    let manifest = |views: &[String]| {
        let text = format!(
            "schema = 1\n[plugin]\nname = \"demo\"\nversion = \"0.1.0\"\nsummary = \"-\"\nlicense = \"-\"\nintended_use = \"-\"\n\
             [task]\nkind = \"binary\"\nlabels = [\"a\"]\n[backbone]\nfamilies = [\"any\"]\n{}",
            views.concat()
        );
        Manifest::parse_strict(&text).unwrap()
    };
    let input = DicomInput::look(place.path()).unwrap().unwrap();
    let filled = |manifest: &Manifest| -> Vec<(String, String)> {
        let fills = input.fill(0, manifest, &[]).unwrap();
        let series = |path: &Path| path.display().to_string().rsplit_once("series=").unwrap().1.to_owned();
        fills.iter().map(|f| (f.view.clone(), series(&f.path))).collect()
    };
    let expected = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let by_name = manifest(&[view("t1", ""), view("t2", ""), view("flair", "")]);
    let found = filled(&by_name);
    assert_eq!(found[1..], expected(&[("t2", "2"), ("flair", "1")]));
    assert!(["3", "4"].contains(&found[0].1.as_str()), "{found:?}");
    let rules = [
        view("first", "series = { sequence = \"T1\" }\n"),
        view("second", "series = { sequence = \"T1\", description = \"post*contrast\" }\n"),
    ];
    assert_eq!(filled(&manifest(&rules)), expected(&[("first", "3"), ("second", "4")]));
    let absent = manifest(&[view("swi", "")]);
    let unfit = input.fill(0, &absent, &[]).unwrap_err();
    assert!(unfit.reason.contains("sequence is T2, asked for is SWI"), "{}", unfit.reason);
}
