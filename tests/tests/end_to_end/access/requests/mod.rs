//! Requests: what is refused, bounded and paged whoever sends it.

mod api;
mod bodies;
mod browsers;
mod lists;
mod malformed;
mod refusals;
mod sources;
mod waits;
