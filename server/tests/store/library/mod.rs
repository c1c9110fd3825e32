//! The library: assignments, the runs of tasks, services, and signatures of packages.

mod assignments;
mod files;
mod package_signatures;
mod services;
