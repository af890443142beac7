//! The next case's scans are read and sliced while the backbone works on the one before.

use super::beside::Beside;
use crate::backbone::BackboneInfo;
use crate::engine::case::Case;
use crate::engine::case_data::{CaseData, ms};
use crate::engine::memory::MemoryCap;
use anymc3d_manifest::View;
use candle_core::Device;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// What preparing a case takes: nothing of the plugins' code.
pub(super) struct Preparer {
    /// With the name of the plugin whose each is.
    views: Vec<(String, View)>,
    backbone: BackboneInfo,
    device: Device,
}

impl Preparer {
    /// Pixels are put on `device`, so that what a GPU computes next is there when it is done with what is before.
    pub fn new(views: Vec<(String, View)>, backbone: BackboneInfo, device: Device) -> Self {
        Self { views, backbone, device }
    }

    fn data(&self) -> CaseData {
        CaseData::on(self.device.clone())
    }

    /// Reads and slices all that a case's tasks will ask for. What fails is tried again when it is asked for: beside
    /// another case there may be too little memory for what fits alone.
    fn prepare(&self, case: &Case, cap: Option<MemoryCap>) -> CaseData {
        let mut data = self.data();
        data.cap = cap.map(MemoryCap::quarter);
        for (plugin, view) in &self.views {
            let Some(path) = case.file(plugin, &view.name) else { continue };
            if data.slices(path, view, &case.region, &self.backbone, 0).is_err() {
                return self.data();
            }
        }
        data
    }
}

/// Cases that are being prepared.
pub(super) struct Prefetcher {
    preparer: Arc<Preparer>,
    /// Where a backbone computes on the processor too; beside a GPU all threads prepare.
    beside: Option<Arc<Beside>>,
    waiting: Mutex<Vec<(Case, JoinHandle<CaseData>)>>,
}

impl Prefetcher {
    pub fn new(preparer: Preparer) -> Self {
        let beside = preparer.device.is_cpu().then(|| Arc::new(Beside::new()));
        Self { preparer: Arc::new(preparer), beside, waiting: Mutex::default() }
    }

    /// Begins with a case on a thread of its own.
    pub fn begin(&self, case: &Case, cap: Option<MemoryCap>) {
        let (preparer, beside, of) = (self.preparer.clone(), self.beside.clone(), case.clone());
        let begun = std::thread::Builder::new().name("next-scan".to_owned()).spawn(move || match beside {
            Some(beside) => beside.run(|| preparer.prepare(&of, cap)),
            None => preparer.prepare(&of, cap),
        });
        // Without a thread the case is prepared when its turn comes.
        if let Ok(begun) = begun {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((case.clone(), begun));
        }
    }

    /// Lets go of what is prepared, for a case that needs the memory; each is prepared when its turn comes.
    pub fn let_go(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(|(_, data)| drop(data.join()));
    }

    /// What was prepared of a case, or nothing so far. Cases that were passed over are let go of.
    pub fn take(&self, case: &Case) -> CaseData {
        let begun = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let at = waiting.iter().position(|(of, _)| of == case);
            at.and_then(|at| waiting.drain(..=at).next_back())
        };
        let start = Instant::now();
        let Some(mut data) = begun.and_then(|(_, data)| data.join().ok()) else {
            return self.preparer.data();
        };
        // What the other threads computed meanwhile is in these times: they are no share of this case's own.
        let ahead = std::mem::take(&mut data.read_ms) + std::mem::take(&mut data.preprocess_ms);
        data.ahead_ms = (ahead > 0.0).then(|| [ahead, ms(start)]);
        data
    }
}
