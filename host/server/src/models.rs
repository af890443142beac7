//! The plugins that are served: what they are, and how they do.

use anymc3d_host::run::{ReferenceSummary, TaskIdentity};
use anymc3d_manifest::Manifest;
use std::sync::{Mutex, PoisonError, RwLock};

/// Whether a plugin answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// It does.
    Ready,
    /// It ended its process too often; why, in one line.
    Quarantined(String),
}

/// What a plugin is.
pub(crate) type About = (Manifest, TaskIdentity, Option<ReferenceSummary>);

/// A plugin that is served.
pub(crate) struct Model {
    /// Its name, which stays.
    pub name: String,
    about: RwLock<About>,
    health: Mutex<Health>,
}

impl Model {
    /// What it says of itself.
    pub fn manifest(&self) -> Manifest {
        self.about.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// What computes its answers, by digest.
    pub fn identity(&self) -> TaskIdentity {
        self.about.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The training cases that its answers are compared with, where its weights tell.
    pub fn reference(&self) -> Option<ReferenceSummary> {
        self.about.read().unwrap_or_else(PoisonError::into_inner).2
    }

    /// Whether it answers.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its health changes.
    pub fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Another build of it answers from here on.
    pub fn replace(&self, manifest: Manifest, identity: TaskIdentity, reference: Option<ReferenceSummary>) {
        *self.about.write().unwrap_or_else(PoisonError::into_inner) = (manifest, identity, reference);
        self.set_health(Health::Ready);
    }
}

/// The plugins, in the order of the session's.
pub(crate) struct Models(Vec<Model>);

impl Models {
    pub fn new(all: impl IntoIterator<Item = About>) -> Self {
        let model = |about: About| Model {
            name: about.0.plugin.name.clone(),
            about: RwLock::new(about),
            health: Mutex::new(Health::Ready),
        };
        Self(all.into_iter().map(model).collect())
    }

    /// All of them.
    pub fn all(&self) -> &[Model] {
        &self.0
    }

    /// A plugin by its name, and its index in the session.
    pub fn find(&self, name: &str) -> Option<(usize, &Model)> {
        self.0.iter().enumerate().find(|(_, model)| model.name == name)
    }
}
