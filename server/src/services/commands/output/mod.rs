//! output

pub mod compaction;
pub mod live;
pub mod read;
pub mod search;
