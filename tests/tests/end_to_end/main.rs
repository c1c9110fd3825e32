//! The end-to-end tests, a folder per feature. One program, so that they are linked once.

mod access;
mod commands;
mod fleet;
mod install;
mod integrations;
mod library;
mod operations;
mod releases;
mod schedules;
mod sessions;
