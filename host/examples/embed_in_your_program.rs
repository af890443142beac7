//! A scan through two plugins, from a program of your own:
//!
//!     cargo run --release -p anymc3d-host --example embed_in_your_program -- examples/scans/chest_phantom.nii.gz
//!
//! Plugins and the backbone are found by name as `host run` finds them; a path does as well.

use anymc3d_host::engine::Case;
use anymc3d_host::run::{Events, Notice, Session, SessionOptions, Wanted};
use std::path::Path;
use std::process::ExitCode;

/// Prints what happens beside the results.
struct Log;

impl Events for Log {
    fn notice(&self, notice: &Notice) {
        eprintln!("{notice}");
    }
}

fn main() -> ExitCode {
    let Some(scan) = std::env::args().nth(1) else {
        eprintln!("give the path of a scan (.nii, .nii.gz)");
        return ExitCode::from(2);
    };
    let mut session = match Session::open(&["lung_nodule", "liver_injury"], &SessionOptions::default()) {
        Ok(session) => session,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(3);
        }
    };
    for refused in session.refused() {
        eprintln!("{}: {}", refused.wanted, refused.reason);
    }
    let mut failed = !session.refused().is_empty();
    for answer in session.run(&Case::of_file(Path::new(&scan)), Wanted::default(), &Log) {
        match answer {
            Ok(output) => {
                let plugin = &output.result.plugin;
                for p in &output.result.predictions {
                    println!("{} {}: {} {:.3}", plugin.name, plugin.version, p.label, p.probability);
                }
                println!("{}", output.result.intended_use);
            }
            Err(failure) => {
                eprintln!("{failure}");
                failed = true;
            }
        }
    }
    session.close(&Log);
    ExitCode::from(u8::from(failed))
}
