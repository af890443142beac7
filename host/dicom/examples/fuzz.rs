//! Mutates real files by a seed, reads what comes out, and counts: inputs, panics, memory. Not part of any build or test
//! that runs by itself; `docs/dicom.md` has figures of a long run.
//!
//! `fuzz [--seed N] [--inputs N] [--seconds N] [--keep FOLDER] [--once FILE] PATH…`: PATH is a file or a folder of originals. Limit the
//! address space (`ulimit -v`): an allocation beyond it ends the process, so a run that comes to its end made none.
//! A panic that reaches this program is a fault: its input is kept in FOLDER and the exit code is 1. Panics of decoders
//! that the reader turned into refusals are counted by their place.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anymc3d_dicom::{Limits, Request, choose, read_file, read_volume, scan};

/// Larger originals would take the time of a thousand small ones.
const LARGEST: u64 = 700 << 10;
/// What a length or a count may be changed to.
const EXTREMES: [u32; 10] =
    [0, 1, 2, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, u32::MAX, 0xE000_FFFE];

/// Where a panic came from → how often.
static PANICS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn limits() -> Limits {
    Limits {
        file_bytes: 16 << 20,
        volume_bytes: 16 << 20,
        header_bytes: 4 << 20,
        frames: 1000,
        ..Limits::default()
    }
}

/// Xorshift64*: the same inputs for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

struct Options {
    seed: u64,
    inputs: u64,
    seconds: u64,
    keep: PathBuf,
    once: Option<PathBuf>,
    originals: Vec<PathBuf>,
}

fn options() -> Options {
    let mut options = Options {
        seed: 1,
        inputs: 1_000_000,
        seconds: u64::MAX,
        keep: std::env::temp_dir(),
        once: None,
        originals: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => options.seed = value().parse().expect("a number"),
            "--inputs" => options.inputs = value().parse().expect("a number"),
            "--seconds" => options.seconds = value().parse().expect("a number"),
            "--keep" => options.keep = value().into(),
            "--once" => options.once = Some(value().into()),
            path => files(Path::new(path), &mut options.originals),
        }
    }
    options
}

fn files(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| files(entry, out));
    } else if fs::metadata(path).is_ok_and(|m| m.len() <= LARGEST && m.len() > 0) {
        out.push(path.to_path_buf());
    }
}

/// A zip of some originals: archives are inputs too.
fn zipped(files: &[Vec<u8>]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (i, bytes) in files.iter().enumerate() {
        zip.start_file(format!("a/{i}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Where elements state their value's length: after a value representation of two capital letters.
fn lengths(bytes: &[u8]) -> Vec<usize> {
    let header = bytes.len().min(64 << 10);
    let is_vr = |w: &[u8]| {
        w[0].is_ascii_uppercase() && w[1].is_ascii_uppercase() && (w[2] as usize) < 128 && w[3] < 2
    };
    (128..header.saturating_sub(4)).filter(|&at| is_vr(&bytes[at..at + 4])).map(|at| at + 2).collect()
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], marks: &[usize], random: &mut Random) {
    let length = bytes.len();
    // Lengths, counts and numbers stand in the header, which most changes hit.
    let at = match random.below(4) {
        0 => random.below(length),
        1 if !marks.is_empty() => marks[random.below(marks.len())].min(length - 1),
        _ => random.below(length.min(4096)),
    };
    let span = (at + 1 + random.below(64)).min(length);
    match random.below(12) {
        0 | 1 => bytes[at] = random.next() as u8,
        2 => bytes[at] ^= 1 << random.below(8),
        3 | 4 => {
            let word = match random.below(3) {
                0 => random.next() as u32,
                _ => EXTREMES[random.below(EXTREMES.len())],
            };
            let end = (at + 4).min(length);
            bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        5 => {
            let end = (at + 2).min(length);
            let word = EXTREMES[random.below(EXTREMES.len())] as u16;
            bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        // Numbers are text in DICOM: another digit, sign or exponent.
        6 | 7 => {
            let digit = bytes[at..].iter().position(u8::is_ascii_digit);
            if let Some(i) = digit {
                bytes[at + i] = b"0123456789-.eE\\ N"[random.below(17)];
            }
        }
        8 => bytes.truncate(at + 1),
        9 => drop(bytes.drain(at..span)),
        10 => {
            let part = bytes[at..span].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let from = random.below(other.len());
            let part = other[from..(from + 1 + random.below(256)).min(other.len())].to_vec();
            let end = (at + part.len()).min(length);
            bytes.splice(at..end, part);
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

/// All that a caller can do with a path; how many volumes came out.
fn read(path: &Path) -> usize {
    let limits = limits();
    let mut volumes = usize::from(read_file(path, &limits).is_ok());
    let Ok(found) = scan(path, &limits) else { return volumes };
    for study in &found.studies {
        let _ = choose(study, &Request::default());
        for series in &study.series {
            for stack in 0..series.stacks.len() {
                if let Ok(volume) = read_volume(&found, series, stack, &limits) {
                    assert!(volume.voxels.iter().all(|v| v.is_finite()), "a voxel is not finite");
                    assert_eq!(volume.voxels.len(), volume.dims.iter().product::<usize>());
                    volumes += 1;
                }
            }
        }
    }
    volumes
}

/// A line of `/proc/self/status`, in kB.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn report(inputs: u64, volumes: usize, faults: u64, begun: Instant) {
    let caught = PANICS.lock().unwrap();
    println!(
        "{inputs} inputs in {} s: {volumes} read, {faults} panics reached the caller, {} were caught inside; VmHWM {} MB, \
         VmPeak {} MB",
        begun.elapsed().as_secs(),
        caught.values().sum::<u64>() - faults,
        status("VmHWM") / 1024,
        status("VmPeak") / 1024
    );
}

fn main() {
    let options = options();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "?".to_owned(), |l| format!("{}:{}", l.file(), l.line()));
        *PANICS.lock().unwrap().entry(place).or_default() += 1;
    }));
    if let Some(path) = &options.once {
        let ended = catch_unwind(AssertUnwindSafe(|| read(path)));
        println!("{ended:?} {:?}", PANICS.lock().unwrap());
        return;
    }
    let mut originals: Vec<Vec<u8>> = options.originals.iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(!originals.is_empty(), "no originals of at most {LARGEST} bytes");
    originals.sort_by_key(Vec::len);
    originals.dedup();
    let few = originals.len().min(4);
    originals.push(zipped(&originals[..few]));
    let marks: Vec<Vec<usize>> = originals.iter().map(|bytes| lengths(bytes)).collect();
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() {
        "/dev/shm".into()
    } else {
        std::env::temp_dir()
    });
    let folder = folder.unwrap();
    let path = folder.path().join("input");
    let mut random = Random(options.seed.max(1));
    let (begun, mut said) = (Instant::now(), Instant::now());
    let (mut inputs, mut volumes, mut faults) = (0, 0, 0);
    while inputs < options.inputs && begun.elapsed() < Duration::from_secs(options.seconds) {
        // Small originals are read often, large ones sometimes.
        let which = match random.below(2) {
            0 => random.below(originals.len()),
            _ => random.below(originals.len()).min(random.below(originals.len())),
        };
        let other = random.below(originals.len());
        let mut bytes = originals[which].clone();
        for _ in 0..[1, 1, 1, 2, 3, 6][random.below(6)] {
            mutate(&mut bytes, &originals[other], &marks[which], &mut random);
        }
        fs::write(&path, &bytes).unwrap();
        match catch_unwind(AssertUnwindSafe(|| read(&path))) {
            Ok(n) => volumes += n,
            Err(_) => {
                faults += 1;
                fs::write(options.keep.join(format!("fault-{}-{inputs}", options.seed)), &bytes).unwrap();
            }
        }
        inputs += 1;
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            report(inputs, volumes, faults, begun);
        }
    }
    report(inputs, volumes, faults, begun);
    for (place, times) in PANICS.lock().unwrap().iter() {
        println!("{times} × {place}");
    }
    std::process::exit(i32::from(faults > 0));
}
