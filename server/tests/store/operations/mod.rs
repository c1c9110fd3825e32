//! Operations of the server itself.

mod storage;
