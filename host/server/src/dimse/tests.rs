//! The receiver and the sender.
