//! The library: assignments, the runs of tasks, services, and signatures of packages.

mod assignment_rollouts;
mod assignments;
mod files;
mod package_signatures;
mod services;
