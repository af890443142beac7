//! Tries a package before it is installed or published. The plugin's code runs in a child process with a time limit, so
//! that a package cannot end or block the process that checks it.

use super::machine::Machine;
use super::options::PASSWORD;
use crate::golden::GoldenAnswer;
use anymc3d_host::check::{Finding, causes};
use anymc3d_host::engine::backbone_store::check_licence;
use anymc3d_host::plugin::inspect;
use anymc3d_manifest::Manifest;
use anymc3d_registry::package::FileRole;
use anymc3d_registry::{Candidate, GoldenReport};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Golden cases are small; a plugin that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Checks that the library contains this `plugin.toml`, and that the golden cases give their logits.
pub(super) fn candidate(machine: &Machine, candidate: &Candidate<'_>) -> Result<GoldenReport, String> {
    let part = |role| candidate.file(role).map_err(|e| e.to_string());
    let (library, weights) = (part(FileRole::Library)?, part(FileRole::Weights)?);
    same_manifest(&library, &part(FileRole::PluginToml)?)?;
    golden(machine, &library, &weights, &candidate.golden(), &candidate.manifest.backbone.fingerprint)
}

/// Checks that the manifest inside the library is the `plugin.toml` beside it.
pub(super) fn same_manifest(library: &Path, plugin_toml: &Path) -> Result<(), String> {
    let embedded = inspect(library).map_err(|e| e.to_string())?.embedded;
    let text = std::fs::read_to_string(plugin_toml).map_err(|e| format!("{}: {e}", plugin_toml.display()))?;
    let beside = Manifest::parse(&text).map_err(|e| e.to_string())?.manifest;
    if embedded.manifest == beside {
        return Ok(());
    }
    let (a, b) = (&embedded.manifest.plugin, &beside.plugin);
    Err(format!(
        "{}: the library was built with another plugin.toml ({} {}, beside it {} {}); build it again",
        library.display(),
        a.name,
        a.version,
        b.name,
        b.version
    ))
}

/// Runs golden cases in a child.
pub(super) fn golden(
    machine: &Machine,
    library: &Path,
    weights: &Path,
    cases: &Path,
    fingerprint: &str,
) -> Result<GoldenReport, String> {
    let backbone =
        machine.backbone(fingerprint).ok_or("the backbone of its weights is not on this machine")?;
    // The weights derive from it: its terms bind whoever installs them.
    check_licence(backbone).map_err(|e| format!("{e}, then give --accept-licence"))?;
    let arguments: [&OsStr; 12] = [
        "plugin".as_ref(),
        "golden".as_ref(),
        "--plugin".as_ref(),
        library.as_os_str(),
        "--weights".as_ref(),
        weights.as_os_str(),
        "--check".as_ref(),
        cases.as_os_str(),
        "--backbone".as_ref(),
        backbone.as_os_str(),
        "--json".as_ref(),
        "--quiet".as_ref(),
    ];
    let ran = child(&arguments)?;
    if !ran.status.success() {
        return Err(ran.reason("its golden cases"));
    }
    let answer: GoldenAnswer =
        serde_json::from_str(&ran.out).map_err(|e| format!("its golden cases gave no answer ({e})"))?;
    let largest_difference = answer.cases.iter().map(|c| c.difference).fold(0.0, f64::max);
    Ok(GoldenReport { cases: answer.cases.len(), largest_difference })
}

/// Runs `host plugin check`. `None` if this host has no such command.
pub(super) fn plugin_check(library: &Path, weights: &Path) -> Result<Option<()>, String> {
    let help: [&OsStr; 3] = ["plugin".as_ref(), "check".as_ref(), "--help".as_ref()];
    if !child(&help)?.status.success() {
        return Ok(None);
    }
    let arguments: [&OsStr; 6] = [
        "plugin".as_ref(),
        "check".as_ref(),
        library.as_os_str(),
        "--weights".as_ref(),
        weights.as_os_str(),
        "--json".as_ref(),
    ];
    let ran = child(&arguments)?;
    if ran.status.success() {
        return Ok(Some(()));
    }
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_default();
    let findings: Vec<Finding> = serde_json::from_value(answer["findings"].clone()).unwrap_or_default();
    let told: Vec<String> = causes(&findings)
        .iter()
        .map(|cause| {
            let Finding { check, expected, found, .. } = cause.first;
            format!("{check}: expected {expected}, found {found}{}", cause.more())
        })
        .collect();
    match told.is_empty() {
        true => Err(ran.reason("`host plugin check`")),
        false => Err(format!("`host plugin check`: {}", told.join("; "))),
    }
}

struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Ran {
    /// What the child said, or how it ended.
    fn reason(&self, what: &str) -> String {
        let errors: Vec<&str> = self.err.lines().filter_map(|l| l.strip_prefix("error: ")).collect();
        if errors.is_empty() {
            format!("{what}: the process ended with {}", self.status)
        } else {
            errors.join("; ")
        }
    }
}

fn child(arguments: &[&OsStr]) -> Result<Ran, String> {
    let failed = |e: std::io::Error| format!("a child process cannot be run ({e})");
    let scratch = tempfile::tempdir().map_err(failed)?;
    // Into files: a pipe that nobody empties would stop a child that says much.
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(File::create(&out).map_err(failed)?).stderr(File::create(&err).map_err(failed)?);
    // Secrets are none of a plugin's business.
    for secret in [PASSWORD, "ANYMC3D_STORE_USER", "ANYMC3D_STORE_PASSWORD"] {
        command.env_remove(secret);
    }
    let mut child = command.spawn().map_err(failed)?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if start.elapsed() > LIMIT {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("took more than {} s and was ended", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = |path: &Path| -> Result<String, String> {
        let mut text = Vec::new();
        File::open(path).and_then(|f| f.take(1 << 20).read_to_end(&mut text)).map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    Ok(Ran { status, out: text(&out)?, err: text(&err)? })
}
