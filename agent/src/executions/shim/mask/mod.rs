//! Masks secrets in output, also across reads, before anything is stored.
//!
//! Every byte of every occurrence of a secret is masked; overlapping occurrences become one `***`.
//! Only bytes that may be the start of an occurrence are held back: at most one less than the
//! longest secret, and none once the stream has ended. This module knows neither pipes nor files.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use muster_protocol::secret_parameters::SecretParameters;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Shorter values are not masked: they occur everywhere, and masking them would reveal them.
pub const MIN_SECRET_BYTES: usize = 4;
/// Encoded forms are masked too, as long as all values together are not longer than this.
const MAX_ENCODED_BYTES: usize = 64 * 1024;
/// The text that replaces a secret.
const MASK: &[u8] = b"***";
/// Characters that are not escaped in a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The secrets are too large to search for. Nothing may be started then, because it would print
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret parameters are too large to be masked in the output; send fewer or shorter ones"
)]
pub struct TooManySecrets;

/// The values to mask, for all streams of a run.
pub struct Masks {
    search: NFA,
    start: StateID,
    states: HashMap<StateID, MatchState>,
    /// The first bytes of all secrets.
    begins: [bool; 256],
}

/// The meaning of one state of the search.
#[derive(Debug, Clone, Copy, Default)]
struct MatchState {
    /// Number of last bytes that are the start of a form and may become a whole one.
    undecided: usize,
    /// Length of the form that the last bytes are; zero if they are none.
    whole: usize,
    /// No longer form continues from here.
    is_end: bool,
}

impl Masks {
    /// Prepares the search; `None` if there is nothing to mask.
    ///
    /// # Errors
    /// [`TooManySecrets`] if the secrets are too large to search for.
    pub fn of(secrets: &SecretParameters) -> Result<Option<Rc<Self>>, TooManySecrets> {
        let forms = forms(secrets);
        if forms.is_empty() {
            return Ok(None);
        }
        let search = NFA::builder().match_kind(MatchKind::Standard).build(&forms);
        let search = search.map_err(|_| TooManySecrets)?;
        let start = search.start_state(Anchored::No).map_err(|_| TooManySecrets)?;
        let mut states = HashMap::from([(start, MatchState::default())]);
        let mut begins = [false; 256];
        for form in &forms {
            begins[usize::from(form[0])] = true;
            let mut state = start;
            for (read, byte) in form.iter().enumerate() {
                state = search.next_state(Anchored::No, state, *byte);
                let match_state = states.entry(state).or_insert_with(|| MatchState {
                    undecided: read + 1,
                    whole: whole(&search, state),
                    is_end: true,
                });
                match_state.is_end &= read + 1 == form.len();
            }
        }
        // Shorter forms first: their states exist when longer ones extend them.
        for form in &forms {
            let after = |bytes: &[u8]| {
                let step = |state, byte: &u8| search.next_state(Anchored::No, state, *byte);
                bytes.iter().fold(start, step)
            };
            let rest =
                states.get(&after(&form[1..])).map_or(0, |match_state| match_state.undecided);
            if let Some(match_state) = states.get_mut(&after(form)).filter(|end| end.is_end) {
                match_state.undecided = rest;
            }
        }
        Ok(Some(Rc::new(Self { search, start, states, begins })))
    }
}

/// Length of the longest form that ends in this state.
fn whole(search: &NFA, state: StateID) -> usize {
    let count = if search.is_match(state) { search.match_len(state) } else { 0 };
    let lengths = (0..count).map(|n| search.pattern_len(search.match_pattern(state, n)));
    lengths.max().unwrap_or(0)
}

/// The forms in which the values may be printed, shorter ones first.
fn forms(secrets: &SecretParameters) -> Vec<Vec<u8>> {
    let values: Vec<&str> = secrets
        .iter()
        // Programs often drop or add a line break at the end.
        .map(|(_, value)| value.trim_end_matches(['\r', '\n']))
        .filter(|value| value.len() >= MIN_SECRET_BYTES)
        .collect();
    let is_short = values.iter().map(|value| value.len()).sum::<usize>() <= MAX_ENCODED_BYTES;
    let mut forms = Vec::new();
    for value in values {
        forms.push(value.as_bytes().to_vec());
        if is_short {
            let line = format!("{value}\n");
            for bytes in [value.as_bytes(), line.as_bytes()] {
                forms.push(BASE64_NOPAD.encode(bytes).into_bytes());
                forms.push(BASE64URL_NOPAD.encode(bytes).into_bytes());
            }
            let in_url = percent_encode(value.as_bytes(), UNRESERVED).to_string();
            forms.push(in_url.replace("%20", "+").into_bytes());
            forms.push(in_url.into_bytes());
        }
    }
    forms.sort_unstable_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    forms.dedup();
    forms
}

/// Masks one stream.
pub struct Masker {
    masks: Rc<Masks>,
    state: StateID,
    /// Read and not passed on yet.
    held: Vec<u8>,
    /// Masked ranges of `held`, in order and without overlap.
    covered: VecDeque<Range<usize>>,
    /// The first masked range continues one whose mask was passed on already.
    is_begun: bool,
}

impl Masker {
    pub fn new(masks: Rc<Masks>) -> Self {
        let state = masks.start;
        Self { masks, state, held: Vec::new(), covered: VecDeque::new(), is_begun: false }
    }

    /// Accepts output and passes on everything that can't be part of a secret.
    pub fn push(&mut self, mut bytes: &[u8], keep: &mut impl FnMut(&[u8])) {
        while let Some(next) = bytes.first() {
            if self.held.is_empty() && !self.masks.begins[usize::from(*next)] {
                let begin = bytes.iter().position(|byte| self.masks.begins[usize::from(*byte)]);
                let (plain, rest) = bytes.split_at(begin.unwrap_or(bytes.len()));
                keep(plain);
                bytes = rest;
                continue;
            }
            self.state = self.masks.search.next_state(Anchored::No, self.state, *next);
            self.held.push(*next);
            bytes = &bytes[1..];
            let MatchState { undecided, whole, .. } = self.match_state();
            if whole > 0 {
                self.cover(self.held.len() - whole..self.held.len());
            }
            if undecided == 0 {
                self.release(0, keep);
            }
        }
        self.release(self.match_state().undecided, keep);
    }

    /// The stream has ended: passes on the rest.
    pub fn finish(&mut self, keep: &mut impl FnMut(&[u8])) {
        self.release(0, keep);
        self.state = self.masks.start;
    }

    fn match_state(&self) -> MatchState {
        self.masks.states.get(&self.state).copied().unwrap_or_default()
    }

    fn cover(&mut self, mut range: Range<usize>) {
        while let Some(last) = self.covered.pop_back_if(|last| last.end > range.start) {
            range = last.start.min(range.start)..last.end.max(range.end);
        }
        self.covered.push_back(range);
    }

    /// Passes on all but the last bytes, which may be the start of a secret.
    fn release(&mut self, undecided: usize, keep: &mut impl FnMut(&[u8])) {
        let decided = self.held.len() - undecided;
        let mut done = 0;
        while let Some(range) = self.covered.pop_front_if(|range| range.start < decided) {
            if !self.is_begun {
                if range.start > done {
                    keep(&self.held[done..range.start]);
                }
                keep(MASK);
            }
            self.is_begun = range.end > decided;
            done = range.end.min(decided);
            if self.is_begun {
                self.covered.push_front(decided..range.end);
                break;
            }
        }
        if decided > done {
            keep(&self.held[done..decided]);
        }
        self.held.drain(..decided);
        for range in &mut self.covered {
            *range = range.start - decided..range.end - decided;
        }
    }
}

#[cfg(test)]
mod tests;
