//! Several backbones in one process: which task runs on which. Each backbone is opened once, with all tasks that name it.

use super::executor::Engines;
use super::named_backbone::backbone_of;
use super::options::SessionOptions;
use super::session::{SelectedPlugin, Selection, SessionError};
use crate::backbone::{Backbone, Precision};
use crate::engine::{Engine, open_backbone_on};
use crate::plugin::Inspected;
use crate::task::LoadedTask;
use std::sync::Arc;

/// A plugin with what it asks for.
struct Asking {
    index: usize,
    plugin: SelectedPlugin,
    library: Inspected,
}

/// What an engine is made of, once every backbone is open.
type Parts = (Arc<Backbone>, Precision, Vec<LoadedTask>);

impl Selection {
    /// Opens each backbone that the plugins need once, and the plugins with their weights on it: the backbone that the options
    /// name, else the one that each plugin's weights were trained on. Refused plugins are in `refused`.
    ///
    /// # Errors
    /// When the only backbone is refused. Where there are several, the plugins of a refused one are refused.
    pub fn open_engines(&mut self, options: &SessionOptions) -> Result<Engines, SessionError> {
        let libraries = std::mem::take(&mut self.libraries);
        let mut groups: Vec<(String, Vec<Asking>)> = Vec::new();
        for (index, (plugin, library)) in
            std::mem::take(&mut self.plugins).into_iter().zip(libraries).enumerate()
        {
            let opened = options.opened.as_ref().map(|(backbone, _)| backbone.info().name.clone());
            let asked = || backbone_of(&library, options.backbone.as_deref(), &options.weights);
            let name = opened.unwrap_or_else(asked);
            let asking = Asking { index, plugin, library };
            match groups.iter_mut().find(|(backbone, _)| *backbone == name) {
                Some((_, group)) => group.push(asking),
                None => groups.push((name, vec![asking])),
            }
        }
        let (several, mut all, mut opened) = (groups.len() > 1, Vec::new(), Vec::new());
        for (backbone, group) in groups {
            match self.open_group(&backbone, group, options) {
                Ok((parts, plugins)) => {
                    let numbered = plugins.into_iter().enumerate();
                    opened.extend(numbered.map(|(task, (index, p))| (index, p, (all.len(), task))));
                    all.push(parts);
                }
                Err((error, _)) if !several => return Err(error),
                Err((error, group)) => group.iter().for_each(|a| self.refuse(&a.plugin.wanted, &error)),
            }
        }
        opened.sort_by_key(|(index, ..)| *index);
        let places = opened.iter().map(|(.., place)| *place).collect();
        self.plugins = opened.into_iter().map(|(_, plugin, _)| plugin).collect();
        // Each engine takes what the process holds by now for its base, the backbones of the others among it.
        let engine = |(backbone, precision, tasks): Parts| Engine::new(backbone, precision, tasks);
        Ok(Engines { all: all.into_iter().map(engine).collect(), places })
    }

    /// A backbone and the tasks on it; each plugin that was opened with its index.
    #[allow(clippy::type_complexity)]
    fn open_group(
        &mut self,
        backbone: &str,
        group: Vec<Asking>,
        options: &SessionOptions,
    ) -> Result<(Parts, Vec<(usize, SelectedPlugin)>), (SessionError, Vec<Asking>)> {
        let (backbone, precision) = match &options.opened {
            Some((backbone, precision)) => (backbone.clone(), *precision),
            None => {
                let place = (options.device, options.device_memory);
                let precision = options.precision.resolve_on(options.device, backbone);
                match open_backbone_on(Some(backbone), precision, place) {
                    Ok(backbone) => (Arc::new(backbone), precision),
                    Err(error) => return Err((error.into(), group)),
                }
            }
        };
        let (mut tasks, mut plugins) = (Vec::new(), Vec::new());
        for Asking { index, plugin, library } in group {
            match LoadedTask::open_all(library, &options.weights, &*backbone, options.of_tasks()) {
                Ok(task) => {
                    tracing::info!(
                        "{}: {} with {} on {}",
                        task.name(),
                        task.library.display(),
                        task.weights.display(),
                        backbone.info().name
                    );
                    tasks.push(task);
                    plugins.push((index, plugin));
                }
                Err(e) => self.refuse(&plugin.wanted, &e),
            }
        }
        Ok(((backbone, precision, tasks), plugins))
    }
}
