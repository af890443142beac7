//! Rules of the source that no compiler checks: which room and which file may know which, and words that are not used
//! as names. Reads the sources and links nothing of the host.

mod arrows;
mod names;
mod sizes;
mod source;
