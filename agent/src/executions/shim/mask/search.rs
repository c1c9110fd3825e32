//! Searches a stream for many byte sequences at once, and knows after each byte how many of the
//! last bytes are undecided.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::TooManySecrets;

/// A search for a set of forms.
pub(super) struct Search {
    nfa: NFA,
    pub start: StateID,
    states: HashMap<StateID, MatchState>,
}

/// The meaning of one state of the search.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MatchState {
    /// Number of last bytes that are the start of a form and may become a whole one.
    pub undecided: usize,
    /// Length of the form that the last bytes are; zero if they are none.
    pub whole: usize,
    /// No longer form continues from here.
    is_end: bool,
}

impl Search {
    /// Prepares the search for forms that are ordered by length.
    pub fn of(forms: &[Vec<u8>]) -> Result<Self, TooManySecrets> {
        let nfa = NFA::builder().match_kind(MatchKind::Standard).build(forms);
        let nfa = nfa.map_err(|_| TooManySecrets)?;
        let start = nfa.start_state(Anchored::No).map_err(|_| TooManySecrets)?;
        let mut states = HashMap::from([(start, MatchState::default())]);
        for form in forms {
            let mut state = start;
            for (read, byte) in form.iter().enumerate() {
                state = nfa.next_state(Anchored::No, state, *byte);
                let match_state = states.entry(state).or_insert_with(|| MatchState {
                    undecided: read + 1,
                    whole: whole(&nfa, state),
                    is_end: true,
                });
                match_state.is_end &= read + 1 == form.len();
            }
        }
        // Shorter forms first: their states exist when longer ones extend them.
        for form in forms {
            let after = |bytes: &[u8]| {
                let step = |state, byte: &u8| nfa.next_state(Anchored::No, state, *byte);
                bytes.iter().fold(start, step)
            };
            let rest =
                states.get(&after(&form[1..])).map_or(0, |match_state| match_state.undecided);
            if let Some(match_state) = states.get_mut(&after(form)).filter(|end| end.is_end) {
                match_state.undecided = rest;
            }
        }
        Ok(Self { nfa, start, states })
    }

    pub fn next(&self, state: StateID, byte: u8) -> StateID {
        self.nfa.next_state(Anchored::No, state, byte)
    }

    pub fn match_state(&self, state: StateID) -> MatchState {
        self.states.get(&state).copied().unwrap_or_default()
    }
}

/// Length of the longest form that ends in this state.
fn whole(nfa: &NFA, state: StateID) -> usize {
    let count = if nfa.is_match(state) { nfa.match_len(state) } else { 0 };
    let lengths = (0..count).map(|n| nfa.pattern_len(nfa.match_pattern(state, n)));
    lengths.max().unwrap_or(0)
}
