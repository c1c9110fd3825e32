//! Releases, and groups that want a version.

mod groups;
mod publishing;
