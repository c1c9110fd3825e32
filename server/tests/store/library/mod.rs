//! The library: assignments, and the runs of tasks.

mod assignments;
