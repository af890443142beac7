//! A session whose plugins are in processes of their own: which backbone each of them runs on, and what the processes are told.

use super::executor::IsolatedExecutor;
use super::isolate::{ChosenLibrary, IsolatedEngine, OpenRequest};
use super::named_backbone::backbone_of;
use super::options::{Isolation, SessionOptions};
use super::session::{Selection, SessionError};
use crate::engine::backbone_store::check_licence;
use crate::engine::{FindBackboneError, find_backbone, provenance};
use crate::output::naming::Names;

impl Selection {
    /// Opens the plugins in a child process that holds every backbone that they need.
    pub(super) fn open_isolated(
        &mut self,
        options: &SessionOptions,
        isolation: &Isolation,
    ) -> Result<IsolatedExecutor, SessionError> {
        let all = std::mem::take(&mut self.plugins);
        let libraries = std::mem::take(&mut self.libraries);
        let (mut chosen, given) = (Vec::new(), options.backbone.as_deref());
        for (task, (plugin, library)) in all.iter().zip(&libraries).enumerate() {
            let (path, sha256) = (plugin.library.clone(), plugin.sha256.clone());
            chosen.push(ChosenLibrary {
                task,
                path,
                sha256,
                backbone: backbone_of(library, given, &options.weights),
            });
        }
        // Asked for here: the processes only look at what is recorded.
        let allowed = |backbone: &str| -> Result<(), FindBackboneError> {
            check_licence(&find_backbone(backbone)?).map_err(FindBackboneError::from)
        };
        let several = chosen.iter().any(|c| c.backbone != chosen[0].backbone);
        let mut refused = Vec::new();
        for plugin in &chosen {
            match allowed(&plugin.backbone) {
                Ok(()) => {}
                Err(error) if !several => return Err(error.into()),
                Err(error) => refused.push((plugin.task, error.to_string())),
            }
        }
        chosen.retain(|plugin| refused.iter().all(|(task, _)| *task != plugin.task));
        let request = OpenRequest {
            plugins: chosen,
            weights: options.weights.clone(),
            device: options.device.to_string(),
            device_memory: options.device_memory,
            precision: options.precision.name().to_owned(),
            threads: options.threads,
            segmentation: options.segmentation,
            merge: options.merge,
            max_memory: isolation.max_memory,
            micro_ct: isolation.micro_ct,
            record: provenance::recorded(),
        };
        let names = all.iter().map(|p| p.manifest.plugin.name.clone()).enumerate().collect();
        let spawn = isolation.spawn.clone();
        let (engine, by_process) =
            IsolatedEngine::open(request, names, isolation.limits, spawn).map_err(SessionError::Process)?;
        refused.extend(by_process);
        refused.sort_by_key(|(task, _)| *task);
        for (index, reason) in &refused {
            self.refuse(&all[*index].wanted, reason);
        }
        let tasks = engine.tasks();
        self.plugins =
            all.into_iter().enumerate().filter(|(i, _)| tasks.contains(i)).map(|(_, p)| p).collect();
        Ok(IsolatedExecutor {
            engine,
            tasks,
            backbone: options.backbone.clone(),
            weights: options.weights.clone(),
            names: Names::default(),
        })
    }
}
