//! One backbone, many plugins: a case in, one checked answer per task out. A task that fails is its own error;
//! the others still answer.

use super::case::{Case, CaseError, Stage};
use super::case_data::CaseData;
use super::memory::{Holdings, MemoryCap};
use super::prediction::Prediction;
use super::prefetch::{Prefetcher, Preparer};
use super::sharing_plan::{Passes, Plan};
use super::task_run::{OnStage, Place, TaskRun};
use crate::backbone::{Backbone, Precision};
use crate::device::device_name;
use crate::task::LoadedTask;
use std::sync::Arc;

/// One backbone and the tasks on it.
///
/// Tasks are shared: one that is replaced by another build stays whole until its last user lets go of it.
pub struct Engine {
    backbone: Arc<Backbone>,
    precision: Precision,
    tasks: Vec<Arc<LoadedTask>>,
    prefetcher: Prefetcher,
    cap: Option<MemoryCap>,
    /// Name of where it computes, as results tell it.
    device: String,
}

impl Engine {
    /// Tasks must have been opened for this backbone, which other engines may share.
    pub fn new(backbone: impl Into<Arc<Backbone>>, precision: Precision, tasks: Vec<LoadedTask>) -> Self {
        let backbone: Arc<Backbone> = backbone.into();
        let of = |t: &LoadedTask| {
            t.task.manifest().views.iter().map(|v| (t.name().to_owned(), v.clone())).collect()
        };
        let views = tasks.iter().flat_map(|t| -> Vec<_> { of(t) }).collect();
        let prefetcher =
            Prefetcher::new(Preparer::new(views, backbone.info().clone(), backbone.device().clone()));
        let device = device_name(backbone.device());
        Self {
            backbone,
            precision,
            tasks: tasks.into_iter().map(Arc::new).collect(),
            prefetcher,
            cap: MemoryCap::of_process().ok(),
            device,
        }
    }

    /// Keeps the process below another cap than its own: a case that would take more is its own error.
    pub fn cap(&mut self, cap: MemoryCap) {
        self.cap = Some(cap);
    }

    /// Whether somebody limits the process's memory: then nothing is kept beside the case at hand.
    pub fn is_capped(&self) -> bool {
        self.cap.is_some_and(|cap| cap.is_given())
    }

    /// How a case is answered: what is shared, and what each task does by itself.
    pub fn plan(&self, case: &Case) -> Plan {
        Plan::of(self.tasks.iter().map(Arc::as_ref), case, self.backbone.info().blocks, false)
    }

    /// The passes through the backbone of some of the tasks for a case; `attention` as for [`Self::predict_each`].
    pub fn passes(&self, case: &Case, attention: bool, tasks: &[usize]) -> Passes {
        let asked = tasks.iter().map(|&i| self.tasks[i].as_ref());
        Plan::of(asked, case, self.backbone.info().blocks, attention).passes()
    }

    /// Where its memory goes that stays: the backbone, and each task.
    pub fn holds(&self) -> Holdings {
        let of_task = |t: &Arc<LoadedTask>| (t.name().to_owned(), t.parameter_bytes());
        Holdings {
            device: self.device.clone(),
            backbone: self.backbone.info().name.clone(),
            backbone_bytes: self.backbone.bytes(),
            task_bytes: self.tasks.iter().map(of_task).collect(),
            free_bytes: self.backbone.device_left(),
        }
    }

    /// How many cases are worth reading prefetcher: one where the processor computes as well, several where a GPU would wait.
    pub fn prefetch_depth(&self) -> usize {
        match self.backbone.device().is_cpu() {
            true => 1,
            false => (rayon::current_num_threads() / 2).clamp(1, 4),
        }
    }

    /// Begins to read and slice a case that will be asked for next, beside what is computed until then.
    pub fn prefetch(&self, case: &Case) {
        if !self.is_capped() {
            self.prefetcher.begin(case, self.cap);
        }
    }

    /// The tasks, in the order of their answers.
    pub fn tasks(&self) -> &[Arc<LoadedTask>] {
        &self.tasks
    }

    /// Puts another generation in a task's place; the old one. It must have been opened for this backbone.
    ///
    /// # Panics
    /// Where there is no task of that index.
    pub fn replace(&mut self, index: usize, task: LoadedTask) -> Arc<LoadedTask> {
        std::mem::replace(&mut self.tasks[index], Arc::new(task))
    }

    /// The number format of its large products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The backbone alone; the tasks are dropped.
    pub fn into_backbone(self) -> Arc<Backbone> {
        self.backbone
    }

    /// The backbone, for a further engine on it.
    pub fn shared_backbone(&self) -> Arc<Backbone> {
        self.backbone.clone()
    }

    /// Every task's answer to a case, in the order of the tasks. `attention`: evidence for heatmaps too.
    pub fn predict(&self, case: &Case, attention: bool) -> Vec<Result<Prediction, CaseError>> {
        let all: Vec<usize> = (0..self.tasks.len()).collect();
        let mut answers = Vec::with_capacity(all.len());
        self.predict_each(case, attention, &all, |_, _| (), |_, answer| answers.push(answer));
        answers
    }

    /// The answers of some of the tasks, each handed over as soon as it is there; `told` hears of every step before it.
    pub fn predict_each(
        &self,
        case: &Case,
        attention: bool,
        tasks: &[usize],
        on_stage: impl FnMut(usize, Stage),
        each: impl FnMut(usize, Result<Prediction, CaseError>),
    ) {
        self.predict_from(self.prefetcher.take(case), (case, attention), tasks, on_stage, each);
    }

    /// What a case's scans are put into that are in memory and in no file, for [`Self::predict_from`].
    pub fn case_data(&self) -> CaseData {
        let mut data = CaseData::on(self.backbone.device().clone());
        data.cap = self.cap;
        data
    }

    /// As [`Self::predict_each`], of a case whose scans, or some of them, are in `data` already, each by the path that the case
    /// calls it by.
    pub fn predict_from(
        &self,
        mut data: CaseData,
        (case, attention): (&Case, bool),
        tasks: &[usize],
        mut on_stage: impl FnMut(usize, Stage),
        mut each: impl FnMut(usize, Result<Prediction, CaseError>),
    ) {
        data.cap = self.cap;
        if self.cap.is_some_and(|cap| cap.wants_all(case.files())) {
            self.prefetcher.let_go();
        }
        let asked = tasks.iter().map(|&i| self.tasks[i].as_ref());
        let plan = Plan::of(asked, case, self.backbone.info().blocks, attention);
        for &i in tasks {
            let on_stage: OnStage<'_> = &mut |stage| on_stage(i, stage);
            let place = Place { backbone: &self.backbone, precision: self.precision, device: &self.device };
            let task = TaskRun { place, loaded: &self.tasks[i], case, attention, plan: &plan };
            each(i, task.answer(&mut data, on_stage));
        }
    }
}
