//! Requests: cases whose clients wait for the answer.

use super::Runner;
use super::heard::Heard;
use crate::work::{AnsweredCase, WaitingCase};
use anymc3d_host::output::{HeatmapWriter, ResultWriter};
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

impl Runner {
    /// Answers a request, and with it those of the same scan that wait: one pass for all plugins that they ask, and one
    /// computation for those that ask the same plugin. So it does for equal ones that arrive meanwhile. How many it answered.
    pub(super) fn requests(&mut self, first: WaitingCase) -> usize {
        let shared = self.shared.clone();
        let models = self.models.clone();
        let key = first.key;
        let mut all = vec![first];
        all.extend(self.requests_like(&key, |_| true));
        let mut plugins: Vec<usize> = all.iter().map(|waiting| waiting.plugin).collect();
        plugins.sort_unstable();
        plugins.dedup();
        let heatmap = all.iter().any(|waiting| waiting.heatmap);
        let mut all = all.into_iter();
        let Some(WaitingCase { case, plugin, folder, reply, .. }) = all.next() else { return 0 };
        let mut replies = vec![(plugin, reply)];
        replies.extend(all.map(|waiting| (waiting.plugin, waiting.reply)));
        let folder = Arc::new(folder);
        let events = Heard::new(&shared, &models, &[], &folder.path().display().to_string());
        let writers: Vec<Arc<dyn ResultWriter>> =
            if heatmap { vec![Arc::new(HeatmapWriter)] } else { Vec::new() };
        let results = folder.path().join("results");
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(&case, &plugins, &results, &writers, &events)));
        let answers = asked.unwrap_or_default().into_iter().map(Some);
        let answers: Vec<Result<CaseOutput, CaseFailure>> = answers
            .chain(std::iter::repeat_with(|| None))
            .take(plugins.len())
            .map(|answer| match answer {
                Some(answer) => answer.map_err(|failure| CaseFailure {
                    message: events.without_folder(&case.with_origins(failure.message)),
                    ..failure
                }),
                None => {
                    let message = "the server's own code failed at this scan; its log says where".to_owned();
                    Err(CaseFailure { message, blame: Blame::Output, remedy: None })
                }
            })
            .collect();
        let of = |plugin: usize| plugins.iter().position(|p| *p == plugin).and_then(|at| answers.get(at));
        // What has failed is tried again; what was not asked, or without a heatmap, is computed.
        let equal = |waiting: &WaitingCase| {
            (heatmap || !waiting.heatmap) && of(waiting.plugin).is_some_and(Result::is_ok)
        };
        let late = self.requests_like(&key, equal);
        replies.extend(late.into_iter().map(|waiting| (waiting.plugin, waiting.reply)));
        let works = replies.len();
        shared.metrics.shared(works - plugins.len());
        for (plugin, output) in plugins.iter().zip(&answers).filter_map(|(p, a)| Some((p, a.as_ref().ok()?)))
        {
            shared.metrics.result(&models.all()[*plugin].name, &output.result);
        }
        for (plugin, reply) in replies {
            let Some(answer) = of(plugin) else { continue };
            let name = &models.all()[plugin].name;
            shared.metrics.answer(name, if answer.is_ok() { "answered" } else { "failed" });
            let answered =
                |output: &CaseOutput| AnsweredCase { output: output.clone(), folder: folder.clone() };
            // A client that left meanwhile gets nothing.
            let _ = reply.send(answer.as_ref().map(answered).map_err(Clone::clone));
        }
        works
    }
}
