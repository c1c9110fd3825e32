//! Schedules, fires and calls of triggers.

mod fires;
mod trigger_states;
