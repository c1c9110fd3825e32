//! Requests: refusals, bounds and pages, for every caller.

mod api;
mod bodies;
mod browsers;
mod lists;
mod malformed;
mod refusals;
mod sources;
mod waits;
