//! What must hold of everything that reads bytes from outside, whatever the bytes are.
//!
//! A target is a function that panics if a property breaks. The fuzzer in `engine/` feeds it bytes
//! without end, `tests/corpus.rs` those that were worth keeping. Knows no fuzzer.

mod exchange;
mod expression;
mod frames;
mod host_files;
mod ledger;
mod mask;
mod output_frame;
mod output_log;
mod range;

/// Longest sentence that a refusal may be, in characters: what was refused stands in it, and it
/// goes into frames, logs and answers.
const MAX_REFUSAL_CHARS: usize = 1_000;

/// Something that reads bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the folder of its corpus.
    pub name: &'static str,
    /// Panics if a property breaks.
    pub check: fn(&[u8]),
}

/// Everything that is fuzzed.
pub const TARGETS: [Target; 12] = [
    Target { name: "agent_frame", check: frames::agent_frame },
    Target { name: "server_frame", check: frames::server_frame },
    Target { name: "output_frame", check: output_frame::check },
    Target { name: "exchange_request", check: exchange::request },
    Target { name: "exchange_response", check: exchange::response },
    Target { name: "manifest", check: host_files::manifest },
    Target { name: "policy", check: host_files::policy },
    Target { name: "expression", check: expression::check },
    Target { name: "ledger", check: ledger::check },
    Target { name: "output_log", check: output_log::check },
    Target { name: "mask", check: mask::check },
    Target { name: "range", check: range::check },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// A refusal that a person is shown says something, in bounded words.
fn check_refusal(refusal: &dyn std::error::Error) {
    let text = refusal.to_string();
    let length = text.chars().count();
    assert!((1..=MAX_REFUSAL_CHARS).contains(&length), "{length} characters: {text:.200}");
}

/// Takes a number off the front of the bytes; zero where there is none.
fn take_byte(bytes: &mut &[u8]) -> usize {
    let Some((first, rest)) = bytes.split_first() else { return 0 };
    *bytes = rest;
    usize::from(*first)
}
