//! `host registry remove`: removes an installed version.

use super::options::home;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::{Request, remove};
use clap::Args;

/// Remove an installed version
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  host registry remove lung_nodule@0.1.0")]
pub(super) struct Remove {
    /// NAME@VERSION
    #[arg(value_name = "PACKAGE", required = true)]
    packages: Vec<Request>,
}

impl Remove {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let home = home()?;
        for request in &self.packages {
            remove(&home, request)?;
            console.result(format!("removed {request}"));
        }
        Ok(Outcome::Done)
    }
}
