//! The server's log: one line of JSON for each request and each event, on standard error. No path that a client sent stands
//! in it, only the route; no header, no body.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::io::Write;

/// Writes a line.
pub(crate) fn line(level: &str, event: &str, facts: Value) {
    let mut line = Map::from_iter([
        ("time".to_owned(), json!(Timestamp::now())),
        ("level".to_owned(), json!(level)),
        ("event".to_owned(), json!(event)),
    ]);
    if let Value::Object(facts) = facts {
        line.extend(facts.into_iter().filter(|(_, value)| !value.is_null()));
    }
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}", Value::Object(line));
}
