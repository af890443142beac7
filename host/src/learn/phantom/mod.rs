//! Procedural, labelled scans: what a task can be trained and tested on without a patient.
