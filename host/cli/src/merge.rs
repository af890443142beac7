//! `host merge`: one table of all that the processes of a batch did.

use super::batch::place::{Place, check_addresses};
use super::console::Console;
use super::outcome::{CommandError, EXIT_CODES, Outcome};
use anymc3d_host::batch::{BatchError, Merged, Missing, Summary, is_address, merge};
use anymc3d_host::output::OutputFolder;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  host merge results                          results/predictions.csv, runs.csv, summary.json
  host merge results --out tables             the same files in another folder
  host merge results --partial                what is there so far
  host eval --predictions results/predictions.csv --data truth.csv --out figures";

/// How many missing cases are named.
const NAMED: usize = 5;

/// Merge a batch into predictions.csv, runs.csv and a summary
///
/// predictions.csv has a row for each case, sorted by name, failed cases with their reason; nothing in it depends on when,
/// where or in how many shards it was made. With several plugins there is a predictions.PLUGIN.csv of each too. What varies
/// is in runs.csv. A build with the feature `parquet` also writes predictions.parquet.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES)]
pub(super) struct Merge {
    /// Folder of the batch, or s3://bucket/prefix in builds with the feature `object-store`
    dir: PathBuf,
    /// Folder for the tables [default: DIR]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Merge what is there, although cases are missing
    #[arg(long)]
    partial: bool,
    /// Print the summary as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Merge {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        check_addresses([&self.dir].into_iter())?;
        if let Some(out) = self.out.as_ref().filter(|out| is_address(out)) {
            return Err(CommandError::usage(format!(
                "--out {}: expected a folder; without --out the tables of a batch in a store go beside it",
                out.display()
            )));
        }
        let lies = Place::open(&self.dir).map_err(CommandError::failed)?;
        let refused = |e: BatchError| match e {
            BatchError::NoBatch { .. } => {
                CommandError::usage(lies.shown(&format!("{e}; give the --out of `host batch`")))
            }
            other => CommandError::failed(lies.shown(&other.to_string())),
        };
        lies.read_all().map_err(refused)?;
        let merged = merge(lies.folder()).map_err(refused)?;
        let dir = self.dir.display();
        if !merged.missing.is_empty() {
            let what = missing(&merged);
            if !self.partial || merged.is_empty() {
                return Err(CommandError::failed(format!(
                    "{dir}: {what}; run the shards again, or give --partial to merge what is there"
                )));
            }
            console.warning(format!("{dir}: {what}; merged without them"));
        }
        let summary = merged.summary();
        let files = files(&merged, &summary)?;
        let place = self.out.as_deref().unwrap_or(lies.folder());
        let out = OutputFolder::open(place).map_err(|e| CommandError::failed(format!("--out {e}")))?;
        out.put_files(&files).map_err(CommandError::failed)?;
        let shown = lies.shown(&place.join("predictions.csv").display().to_string());
        if let Some(store) = lies.upstream().filter(|_| self.out.is_none()) {
            for (name, _) in &files {
                store.put_file(&place.join(name)).map_err(CommandError::failed)?;
            }
        }
        for (case, plugin, times) in merged.done_twice().into_iter().take(NAMED) {
            console.note(format!("{case}: {plugin}: was done {times} times"));
        }
        if self.json {
            console.result(serde_json::to_string(&summary).map_err(CommandError::failed)?);
        } else {
            console.result(text(&summary, &shown));
        }
        Ok(Outcome::Done)
    }
}

fn files(merged: &Merged, summary: &Summary) -> Result<Vec<(String, Vec<u8>)>, CommandError> {
    let mut files = vec![("runs.csv".to_owned(), merged.runs_csv())];
    let plugins: Vec<&str> = merged.plugins().collect();
    if plugins.len() > 1 {
        let of = |(i, plugin): (usize, &&str)| {
            (format!("predictions.{plugin}.csv"), merged.predictions_csv(Some(i)))
        };
        files.extend(plugins.iter().enumerate().map(of));
    }
    #[cfg(feature = "parquet")]
    {
        let mut bytes = Vec::new();
        anymc3d_host::batch::predictions_parquet(merged, &mut bytes).map_err(CommandError::failed)?;
        files.push(("predictions.parquet".to_owned(), bytes));
    }
    let json = serde_json::to_string_pretty(summary).map_err(CommandError::failed)?;
    files.push(("summary.json".to_owned(), (json + "\n").into_bytes()));
    files.push(("predictions.csv".to_owned(), merged.predictions_csv(None)));
    Ok(files)
}

/// `12 of 400 cases are missing (shard 3/8: 12): c1, c2, …`
fn missing(merged: &Merged) -> String {
    let shards = merged.missing_by_shard();
    let of_shards: Vec<String> = shards.iter().map(|(shard, n)| format!("shard {shard}: {n}")).collect();
    let cases: usize = shards.values().sum();
    let named = |m: &Missing| match &m.outdated {
        Some(why) => format!("{} ({}: {why})", m.case, m.plugin),
        None => m.case.clone(),
    };
    let mut names: Vec<String> = merged.missing.iter().map(named).collect();
    names.dedup();
    let more = if names.len() > NAMED { ", …" } else { "" };
    names.truncate(NAMED);
    format!(
        "{cases} of {} cases are missing ({}): {}{more}",
        merged.len() + cases,
        of_shards.join(", "),
        names.join(", ")
    )
}

fn text(summary: &Summary, place: &str) -> String {
    let Summary { cases, answered, failed, missing, .. } = summary;
    let mut lines =
        vec![format!("{place}: {cases} cases: {answered} answered, {failed} failed, {missing} missing")];
    for (kind, n) in &summary.failures {
        lines.push(format!("  failed by {kind}: {n}"));
    }
    lines.extend(summary.reasons.iter().map(|(reason, n)| format!("    {n} × {reason}")));
    if let Some(seconds) = summary.seconds_per_case.filter(|s| *s > 0.0) {
        let cpu =
            summary.cpu_seconds_per_case.map_or(String::new(), |s| format!(", {s:.2} processor-seconds"));
        let peak = summary.peak_bytes.map_or(String::new(), |b| format!(", {} MiB at most", b >> 20));
        let pace = 3600.0 / seconds;
        lines.push(format!("  a case: {seconds:.2} s{cpu}{peak}; {pace:.0} cases per hour and process"));
    }
    for made in &summary.made_by {
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        let weights: Vec<String> = made.weights_sha256.iter().map(|d| short(d)).collect();
        lines.push(format!(
            "  {} {}: library {}…, weights {}…, {} {}… in {}",
            made.plugin,
            made.version,
            short(&made.library_sha256),
            weights.join("+"),
            made.backbone,
            short(&made.backbone_sha256),
            made.precision
        ));
    }
    lines.join("\n")
}
