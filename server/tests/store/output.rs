//! Output: in rows, in files, compacted; the same bytes whatever happens to it.

mod compaction;
mod files;
mod reports;
mod scene;
