//! What the person at the terminal sees: results on stdout, everything else on stderr, bars on a terminal only.

use super::outcome::Outcome;
use clap::{ArgAction, Args};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{ErrorKind, Write};
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How much the host prints on stderr.
#[derive(Debug, Args)]
pub(super) struct Loudness {
    /// Print only results and errors: no progress, no notices
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    quiet: bool,
    /// Print what the host does; give it twice for details
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Messages")]
    verbose: u8,
}

/// The two streams, and the bar that may stand below them.
pub(super) struct Console {
    quiet: bool,
    verbose: u8,
    bar: RefCell<ProgressBar>,
    reader_left: Cell<bool>,
    unwritable: Cell<bool>,
}

impl Console {
    /// Also sets up the log, once per process.
    pub fn new(loudness: &Loudness) -> Self {
        let level = match (loudness.quiet, loudness.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => LevelFilter::WARN,
            (false, 1) => LevelFilter::INFO,
            (false, _) => LevelFilter::DEBUG,
        };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
        // A second console of the same process (tests) keeps the first one's log.
        let _ = log.event_format(OneLine).try_init();
        Self {
            quiet: loudness.quiet,
            verbose: loudness.verbose,
            bar: RefCell::new(ProgressBar::hidden()),
            reader_left: Cell::new(false),
            unwritable: Cell::new(false),
        }
    }

    /// The options that give a child process of this binary the same loudness.
    pub fn as_arguments(&self) -> Vec<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => vec!["--quiet"],
            (false, n) => vec!["--verbose"; usize::from(n)],
        }
    }

    /// Whether nobody reads the results any more.
    pub fn is_unread(&self) -> bool {
        self.reader_left.get() || self.unwritable.get()
    }

    /// Whether only results and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A result, on stdout.
    pub fn result(&self, text: impl fmt::Display) {
        if self.reader_left.get() || self.unwritable.get() {
            return;
        }
        let written = self.bar.borrow().suspend(|| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{text}").and_then(|()| out.flush())
        });
        match written {
            Ok(()) => {}
            // `host run … | head`: whoever read has read enough, and files may still have to be written.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.reader_left.set(true),
            Err(e) => {
                self.unwritable.set(true);
                self.error(format!("standard output: cannot be written ({e})"));
            }
        }
    }

    /// Something failed.
    pub fn error(&self, text: impl fmt::Display) {
        self.say("error", &text);
    }

    /// Something to know before a result is believed.
    pub fn warning(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.say("warning", &text);
        }
    }

    /// Something good to know.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.say("note", &text);
        }
    }

    /// Text for the person at the terminal, beside a result for programs; on stderr without a prefix.
    pub fn aside(&self, text: impl fmt::Display) {
        if !self.quiet {
            // With stderr closed there is nobody left to tell.
            let _ = self.bar.borrow().suspend(|| writeln!(std::io::stderr().lock(), "{text}"));
        }
    }

    fn say(&self, kind: &str, text: &dyn fmt::Display) {
        // With stderr closed there is nobody left to tell.
        let _ = self.bar.borrow().suspend(|| writeln!(std::io::stderr().lock(), "{kind}: {text}"));
    }

    /// A bar of `steps` steps; hidden when quiet or when stderr is no terminal. It replaces the one before it.
    pub fn progress(&self, steps: usize, what: &'static str) -> ProgressBar {
        let bar =
            if self.quiet || steps < 2 { ProgressBar::hidden() } else { ProgressBar::new(steps as u64) };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        self.bar.replace(bar.clone());
        bar
    }

    /// Takes the bar away. [`Outcome::Failed`] when results were lost.
    pub fn close(&self) -> Outcome {
        self.bar.borrow().finish_and_clear();
        if self.unwritable.get() { Outcome::Failed } else { Outcome::Done }
    }
}

/// Log lines look like the command's own: `warning: …`.
struct OneLine;

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let kind = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "{kind}: ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
