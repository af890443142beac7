//! `<case>.<plugin>.failed.json`: what a case without a result leaves in the folder of results.

use super::OutputFolder;
use crate::engine::result::FailedCase;
use std::path::PathBuf;

impl OutputFolder {
    /// Stores why a case has no result, beside the cases' folders; an earlier result of the case stays. Without a plugin it
    /// was the scan's fault, for all of them.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn put_failure(&self, failed: &FailedCase) -> Result<(), String> {
        let place = self.failure(&failed.case, failed.plugin.as_deref());
        let json = serde_json::to_string_pretty(failed).map_err(|e| format!("{}: {e}", place.display()))?;
        crate::fs::write_atomically(&place, (json + "\n").as_bytes())
            .map_err(|e| format!("{}: cannot be written ({e})", place.display()))
    }

    /// Removes what an earlier call stored, once a plugin has a result for the case.
    pub fn remove_failure(&self, case: &str, plugin: &str) {
        for place in [self.failure(case, Some(plugin)), self.failure(case, None)] {
            // It is rarely there.
            let _ = std::fs::remove_file(place);
        }
    }

    fn failure(&self, case: &str, plugin: Option<&str>) -> PathBuf {
        let plugin = plugin.map_or_else(String::new, |plugin| format!(".{plugin}"));
        self.root().join(format!("{case}{plugin}.failed.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::result::{FailedInput, Provenance, SCHEMA};

    #[test]
    fn a_failure_is_stored_until_a_result_comes_and_tells_when_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let out = OutputFolder::open(folder.path()).unwrap();
        let failed = |plugin: Option<&str>| FailedCase {
            schema: SCHEMA.to_owned(),
            case: "scan".to_owned(),
            input: FailedInput { path: "scan.nii".to_owned() },
            plugin: plugin.map(str::to_owned),
            error: "found nothing".to_owned(),
            kind: None,
            provenance: Provenance::now(),
        };
        out.put_failure(&failed(None)).unwrap();
        out.put_failure(&failed(Some("task"))).unwrap();
        let text = std::fs::read_to_string(folder.path().join("scan.task.failed.json")).unwrap();
        assert_eq!(serde_json::from_str::<FailedCase>(&text).unwrap().error, "found nothing");
        assert!(folder.path().join("scan.failed.json").exists());
        out.remove_failure("scan", "other");
        assert!(folder.path().join("scan.task.failed.json").exists());
        out.remove_failure("scan", "task");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
