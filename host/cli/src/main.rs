//! The command line: one file per command; this one parses and dispatches.
//!
//! A new command is a file, a variant of `Command` and a line of its dispatch.

mod advice;
mod allocator;
mod backbone;
mod batch;
mod bench;
mod console;
mod count;
mod dicom;
mod doctor;
mod embed;
mod eval;
mod golden;
mod labels;
mod merge;
mod options;
mod outcome;
mod phantom;
mod plugin;
#[cfg(unix)]
mod plugin_check;
mod region;
mod registry;
mod report;
mod run;
mod self_test;
#[cfg(all(unix, feature = "server"))]
mod serve;
mod session_options;
mod shell;
mod study;
mod tasks;
mod text;
mod train;
mod weights;
#[cfg(unix)]
mod worker;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use console::{Console, Loudness};
use outcome::{CommandError, EXIT_CODES, Outcome};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  host run --plugin lung_nodule scan.nii.gz                     a result on the terminal
  host run --plugin lung_nodule scans/ --out results            results, heatmaps and previews
  host run --plugin lung_nodule scans/ --json > results.jsonl   one JSON object per line
  host batch --plugin lung_nodule cohort/ --out results         a cohort: resumable, in shards; then `host merge results`
  host eval --predictions scores.csv --out figures              how good any model's scores are
  host plugin check target/release/libmine.so                   is a plugin fit to be shipped?
  host plugin list                                              the plugins that are found by name
  host phantom lung_nodule --count 20 --seed 1 --out phantoms   synthetic scans to try a plugin on";

/// Run and train 3D medical classification tasks: plugins that share one frozen 2D vision foundation model.
#[derive(Debug, Parser)]
#[command(name = "host", version, before_help = EXAMPLES, after_help = EXIT_CODES, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    loudness: Loudness,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Batch(Box<batch::Batch>),
    Merge(merge::Merge),
    Train(Box<train::Train>),
    Eval(Box<eval::Eval>),
    Study(study::Study),
    Embed(Box<embed::Embed>),
    Doctor(doctor::Doctor),
    Phantom(phantom::Phantom),
    Plugin(plugin::Plugin),
    Registry(Box<registry::Registry>),
    Backbone(backbone::Backbone),
    Weights(weights::WeightsCommand),
    Bench(bench::Command),
    SelfTest(self_test::SelfTest),
    #[cfg(all(unix, feature = "server"))]
    Serve(Box<serve::Serve>),
    Completions(shell::Completions),
    Man(shell::Man),
    #[cfg(unix)]
    #[command(hide = true)]
    Worker(worker::Worker),
}

impl Command {
    fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self {
            Self::Run(command) => command.run(console),
            Self::Batch(command) => command.run(console),
            Self::Merge(command) => command.run(console),
            Self::Train(command) => command.run(console),
            Self::Eval(command) => command.run(console),
            Self::Study(command) => command.run(console),
            Self::Embed(command) => command.run(console),
            Self::Doctor(command) => command.run(console),
            Self::Phantom(command) => command.run(console),
            Self::Plugin(command) => command.run(console),
            Self::Registry(command) => command.run(console),
            Self::Backbone(command) => command.run(console),
            Self::Weights(command) => command.run(console),
            Self::Bench(command) => command.run(console),
            Self::SelfTest(command) => command.run(console),
            #[cfg(all(unix, feature = "server"))]
            Self::Serve(command) => command.run(console),
            Self::Completions(command) => command.run(console),
            Self::Man(command) => command.run(console),
            #[cfg(unix)]
            Self::Worker(command) => command.run(),
        }
    }
}

/// The command line, in which every command's help ends with the exit codes.
pub(crate) fn command_line() -> clap::Command {
    fn with_exit_codes(command: clap::Command) -> clap::Command {
        let command =
            if command.get_after_help().is_none() { command.after_help(EXIT_CODES) } else { command };
        command.mut_subcommands(with_exit_codes)
    }
    with_exit_codes(Cli::command())
}

fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command_line().try_get_matches()?)
}

/// Parses the process's arguments, runs the command, and returns its exit code.
fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        // Help and version arrive here too; clap knows the stream and the exit code of each.
        Err(e) => {
            // A closed stream is no reason to fail.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(Outcome::Usage.code()));
        }
    };
    let console = Console::new(&cli.loudness);
    let outcome = cli.command.run(&console).unwrap_or_else(|e| {
        console.error(&e.message);
        e.outcome
    });
    ExitCode::from(outcome.or(console.close()).code())
}

#[cfg(test)]
mod tests {
    use super::{Cli, command_line};
    use clap::CommandFactory;

    #[test]
    fn the_options_of_every_command_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_lists_the_exit_codes() {
        let mut host = command_line();
        let mut helps = vec![host.render_help().to_string()];
        for command in host.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
            helps.push(command.render_help().to_string());
            helps.extend(command.get_subcommands_mut().map(|command| command.render_help().to_string()));
        }
        assert!(helps.len() > 30, "{}", helps.len());
        for help in helps {
            for line in [
                "Exit codes:",
                "  0  all done",
                "  1  at least one case failed",
                "  2  wrong usage",
                "  3  a plugin",
            ] {
                assert!(help.contains(line), "`{line}` is missing: {help}");
            }
        }
    }

    #[test]
    fn the_help_of_train_is_grouped_by_what_a_person_decides_first() {
        let mut host = Cli::command();
        let help = host.find_subcommand_mut("train").expect("the command exists").render_help().to_string();
        // The examples above the options name some of them too.
        let options = help.find("\nOptions:\n").expect("a list of options");
        let at =
            |text: &str| help[options..].find(text).unwrap_or_else(|| panic!("`{text}` is missing: {help}"));
        let headings =
            ["\nData:\n", "\nModel (", "\nOptimisation:\n", "\nMemory and speed:\n", "\nOutput:\n"];
        assert!(headings.map(at).is_sorted(), "{help}");
        assert!(at("--data") < at("--fusion") && at("--fusion") < at("--epochs"), "{help}");
        assert!(at("--epochs") < at("--max-memory") && at("--max-memory") < at("--out <DIR>"), "{help}");
    }
}
