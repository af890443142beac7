//! The command line: one file per command; this one parses and dispatches.
