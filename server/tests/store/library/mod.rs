//! The library: assignments, the runs of tasks, and services.

mod assignments;
mod files;
mod services;
