//! The kit's own tests: operations against difference quotients, handles, and tasks that are right and wrong.

mod gradients;
mod handles;
mod label_queries;
mod prompt;
mod regions;
mod tasks;
