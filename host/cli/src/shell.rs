//! `host completions` and `host man`: what a shell and `man` know of this command line.

use crate::command_line;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use clap::Args;
use clap_complete::{Generator, Shell};
use std::path::{Path, PathBuf};

const COMPLETIONS: &str = "\
Examples:
  host completions bash > ~/.local/share/bash-completion/completions/host
  host completions zsh > ~/.zfunc/_host
  host completions fish > ~/.config/fish/completions/host.fish";

/// Print what a shell completes this command line with
#[derive(Debug, Args)]
#[command(before_help = COMPLETIONS)]
pub(super) struct Completions {
    /// Shell
    shell: Shell,
}

impl Completions {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let mut command = shown(&command_line());
        command.set_bin_name("host");
        command.build();
        let mut script = Vec::new();
        self.shell.generate(&command, &mut script);
        console.result(String::from_utf8_lossy(&script).trim_end());
        Ok(Outcome::Done)
    }
}

/// The command without what is hidden, which clap_complete would offer too.
fn shown(command: &clap::Command) -> clap::Command {
    // A name must live as long as the program, which ends after this command.
    let name: &'static str = Box::leak(command.get_name().to_owned().into_boxed_str());
    let own = command.get_subcommands().filter(|own| !own.is_hide_set()).map(shown);
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    let mut all = clap::Command::new(name).args(arguments).subcommands(own);
    if let Some(about) = command.get_about() {
        all = all.about(about.clone());
    }
    all.version(env!("CARGO_PKG_VERSION"))
}

const MAN: &str = "\
Examples:
  host man --out man1        host.1, host-run.1 and a page for every other command
  man -l man1/host-run.1";

/// Write the manual pages
#[derive(Debug, Args)]
#[command(before_help = MAN)]
pub(super) struct Man {
    /// Folder for the pages
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

impl Man {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        std::fs::create_dir_all(&self.out).map_err(|e| unwritten(&self.out, &e))?;
        let mut command = command_line();
        command.set_bin_name("host");
        command.build();
        let mut pages = 0;
        page(&command, "host", &self.out, &mut pages)?;
        console.result(format!("{pages} pages in {}", self.out.display()));
        Ok(Outcome::Done)
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::failed(format!("{}: cannot be written ({error})", path.display()))
}

/// The page of a command, and those of its own commands: `host-plugin-new.1`.
fn page(command: &clap::Command, name: &str, out: &Path, pages: &mut usize) -> Result<(), CommandError> {
    let path = out.join(format!("{name}.1"));
    let mut text = Vec::new();
    // Called `host-run`, as git has it.
    let page_of = command.clone().after_help(examples_and_exit_codes(command));
    clap_mangen::Man::new(page_of).render(&mut text).map_err(|e| unwritten(&path, &e))?;
    std::fs::write(&path, text).map_err(|e| unwritten(&path, &e))?;
    *pages += 1;
    for own in command.get_subcommands().filter(|own| !own.is_hide_set() && own.get_name() != "help") {
        page(own, &format!("{name}-{}", own.get_name()), out, pages)?;
    }
    Ok(())
}

/// What `--help` shows before and after the options: a page has no place for the first.
fn examples_and_exit_codes(command: &clap::Command) -> String {
    let around = [command.get_before_help(), command.get_after_help()];
    let texts: Vec<String> = around.into_iter().flatten().map(ToString::to_string).collect();
    texts.join("\n\n")
}
