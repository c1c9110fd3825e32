//! The writer: transactions that are shared, counted, or fail.

mod batches;
mod counting;
mod isolation;
mod writing;
