//! A plugin's newer build takes the place of the one that runs: it is opened and tried in a process of its own first.

use super::engine::{Group, IsolatedEngine};
use super::trial::trial_case;
use super::wire::{ChosenLibrary, Request};
use crate::run::events::{Events, Notice};
use crate::run::failure::Blame;
use anymc3d_manifest::Manifest;
use std::collections::BTreeMap;

impl IsolatedEngine {
    /// Opens a plugin again, with those that share the first process, and lets it answer a synthetic case; then the new process
    /// takes the place of the old one, which ends. A plugin that was left out answers again.
    ///
    /// # Errors
    /// One line, when the build is refused or fails at the case. What ran before goes on.
    pub fn reload(
        &mut self,
        library: ChosenLibrary,
        manifest: &Manifest,
        events: &dyn Events,
    ) -> Result<(), String> {
        let task = library.task;
        let before = (self.identities.clone(), self.holdings.clone());
        let mut plugins = self.groups.first().map(|group| group.plugins.clone()).unwrap_or_default();
        plugins.retain(|plugin| plugin.task != task);
        plugins.push(library);
        plugins.sort_unstable();
        self.groups.push(Group::new(plugins));
        let opened = self.start(self.groups.len() - 1);
        let outcome = opened.and_then(|refused| match refused.into_iter().next() {
            Some((_, why)) => Err(why),
            None => self.tried(task, manifest),
        });
        // It was pushed above.
        let Some(trial) = self.groups.pop() else { return Err("the new process was lost".to_owned()) };
        if let Err(why) = outcome {
            (self.identities, self.holdings) = before;
            ended(trial, events);
            return Err(why);
        }
        for group in self.groups.iter_mut().skip(1) {
            group.leave_out(task);
        }
        match self.groups.first_mut() {
            Some(first) => ended(std::mem::replace(first, trial), events),
            None => self.groups.push(trial),
        }
        // Those that are left without plugins.
        let (kept, empty) = std::mem::take(&mut self.groups).into_iter().partition(|g| !g.plugins.is_empty());
        self.groups = kept;
        let empty: Vec<Group> = empty;
        empty.into_iter().for_each(|group| ended(group, events));
        self.quarantined.remove(&task);
        self.strikes.remove(&task);
        self.faults.remove(&task);
        Ok(())
    }

    /// Lets the last group's process answer a synthetic case. A case that cannot be made, or says nothing to the plugin, is no
    /// fault of it.
    fn tried(&mut self, task: usize, manifest: &Manifest) -> Result<(), String> {
        let Some(mut process) = self.groups.last_mut().and_then(|group| group.process.take()) else {
            return Err("the new process ended".to_owned());
        };
        let folder = tempfile::tempdir().map_err(|e| format!("no folder could be made for a trial ({e})"))?;
        let case = trial_case(manifest, folder.path());
        let case = case.map_err(|e| format!("no case could be made for a trial ({e})"))?;
        process.send(&Request::Case { case, tasks: vec![task], writers: Vec::new(), folder: None });
        let mut answers = BTreeMap::new();
        match self.turns(&mut process, &mut answers, &crate::run::Silent) {
            Ok(()) => {}
            Err((end, _)) => {
                return Err(format!("plugin {}: at a synthetic case its process {end}", self.name(task)));
            }
        }
        if let Some(group) = self.groups.last_mut() {
            group.process = Some(process);
        }
        match answers.remove(&task) {
            Some(Err(failure)) if failure.blame != Blame::Scan => {
                Err(format!("plugin {}: at a synthetic case: {}", self.name(task), failure.message))
            }
            _ => Ok(()),
        }
    }
}

fn ended(group: Group, events: &dyn Events) {
    if let Some(how) = group.process.and_then(super::process::Process::end) {
        events.notice(&Notice::ProcessEnded { reason: how });
    }
}
