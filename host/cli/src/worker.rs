//! `host worker`: the process that plugins run in, started by other commands.

use super::allocator::keep_free_memory;
use super::console::Console;
use super::outcome::{CommandError, Outcome};
use anymc3d_host::run::isolate::{SpawnWorker, serve};
use clap::Args;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Run plugins for another command, which survives if they end this process
#[derive(Debug, Args)]
pub(super) struct Worker {}

impl Worker {
    pub fn run(self) -> Result<Outcome, CommandError> {
        // The library opens the backbone and computes in one call.
        keep_free_memory();
        serve().map_err(|e| match e {
            anymc3d_host::run::isolate::WorkerError::NotAWorker => {
                CommandError::usage("worker: started by `run --isolate` and `plugin check`, never by hand")
            }
            lost => CommandError::failed(format!("worker: {lost}")),
        })?;
        Ok(Outcome::Done)
    }
}

/// Starts this binary as a worker with the same --quiet and --verbose as this process.
pub(super) fn spawn(console: &Console) -> Arc<SpawnWorker> {
    let loudness = console.as_arguments();
    Arc::new(move |socket: OwnedFd| {
        // On Linux this is the binary that runs, also when another one lies in its place by now.
        let itself = std::path::Path::new("/proc/self/exe");
        let itself = if itself.exists() { itself.to_owned() } else { std::env::current_exe()? };
        let mut command = Command::new(itself);
        command.arg0("host").args(&loudness).arg("worker").stdin(socket);
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        command.spawn()
    })
}
