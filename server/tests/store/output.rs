//! Output: in rows, in files, compacted; always the same bytes.

mod compaction;
mod files;
mod reports;
mod rotation;
mod scene;
