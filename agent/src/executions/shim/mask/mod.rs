//! Masks secrets in output, also across reads, before anything is stored.
//!
//! Every byte of every occurrence of a secret is masked; overlapping occurrences become one `***`.
//! Only bytes that may be the start of an occurrence are held back: fewer than the longest form,
//! with its line breaks if it is base64, and none once the stream has ended. This module knows
//! neither pipes nor files.

mod forms;
mod search;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use aho_corasick::automaton::StateID;
use muster_protocol::parameter::secret_parameters::SecretParameters;

use self::forms::Forms;
pub use self::forms::MIN_SECRET_BYTES;
use self::search::Search;

/// The text that replaces a secret.
const MASK: &[u8] = b"***";

/// The secrets are too large to search for. Nothing may be started then, because it would print
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret parameters are too large to be masked in the output; send fewer or shorter ones"
)]
pub struct TooManySecrets;

/// The values to mask, for all streams of a run.
pub struct Masks {
    plain: Search,
    base64: Search,
    /// The bytes that may start a form.
    begins: [bool; 256],
}

impl Masks {
    /// Prepares the search; `None` if there is nothing to mask.
    ///
    /// # Errors
    /// [`TooManySecrets`] if the secrets are too large to search for.
    pub fn of(secrets: &SecretParameters) -> Result<Option<Rc<Self>>, TooManySecrets> {
        let forms = Forms::of(secrets);
        if forms.plain.is_empty() {
            return Ok(None);
        }
        let mut begins = [false; 256];
        for byte in 0..=u8::MAX {
            let starts = |forms: &[Vec<u8>], byte| forms.iter().any(|form| form[0] == byte);
            begins[usize::from(byte)] =
                starts(&forms.plain, byte) || starts(&forms.base64, standard_letter(byte));
        }
        let (plain, base64) = (Search::of(&forms.plain)?, Search::of(&forms.base64)?);
        Ok(Some(Rc::new(Self { plain, base64, begins })))
    }
}

/// The same letter in the standard alphabet of base64.
fn standard_letter(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        _ => byte,
    }
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Masks one stream.
pub struct Masker {
    masks: Rc<Masks>,
    plain: StateID,
    /// Advances with every byte but the line breaks within a form.
    base64: StateID,
    /// Read and not passed on yet.
    held: Vec<u8>,
    /// For each line break that `base64` has skipped: the number of other bytes of `held` before
    /// it, in order.
    skipped: VecDeque<usize>,
    /// Masked ranges of `held`, in order and without overlap.
    covered: VecDeque<Range<usize>>,
    /// The first masked range continues one whose mask was passed on already.
    is_begun: bool,
}

impl Masker {
    pub fn new(masks: Rc<Masks>) -> Self {
        Self {
            plain: masks.plain.start,
            base64: masks.base64.start,
            masks,
            held: Vec::new(),
            skipped: VecDeque::new(),
            covered: VecDeque::new(),
            is_begun: false,
        }
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
            self.take(*next);
            bytes = &bytes[1..];
            if self.is_decided() {
                self.write_out(0, keep);
            }
        }
        self.write_out(self.undecided(), keep);
    }

    /// The stream has ended: passes on the rest.
    pub fn finish(&mut self, keep: &mut impl FnMut(&[u8])) {
        self.write_out(0, keep);
        self.plain = self.masks.plain.start;
        self.base64 = self.masks.base64.start;
    }

    /// Adds one byte to the held ones, and covers the forms that end with it.
    fn take(&mut self, byte: u8) {
        self.plain = self.masks.plain.next(self.plain, byte);
        let continues_base64 = self.masks.base64.match_state(self.base64).undecided > 0;
        let previous = self.held.last().copied();
        self.held.push(byte);
        let whole = self.masks.plain.match_state(self.plain).whole;
        if whole > 0 {
            self.cover(self.held.len() - whole..self.held.len());
        }
        if !(continues_base64 && is_line_break(byte)) {
            self.base64 = self.masks.base64.next(self.base64, standard_letter(byte));
            let whole = self.masks.base64.match_state(self.base64).whole;
            if whole > 0 {
                self.cover(self.base64_start(whole)..self.held.len());
            }
        } else if (previous, byte) == (Some(b'\r'), b'\n') || !previous.is_some_and(is_line_break) {
            self.skipped.push_back(self.held.len() - 1 - self.skipped.len());
        } else {
            // An empty line ends the text, so that few bytes are held back.
            self.base64 = self.masks.base64.start;
        }
    }

    fn is_decided(&self) -> bool {
        self.masks.plain.match_state(self.plain).undecided == 0
            && self.masks.base64.match_state(self.base64).undecided == 0
    }

    /// Number of last bytes that may be the start of a form.
    fn undecided(&self) -> usize {
        let plain = self.masks.plain.match_state(self.plain).undecided;
        match self.masks.base64.match_state(self.base64).undecided {
            0 => plain,
            letters => plain.max(self.held.len() - self.base64_start(letters)),
        }
    }

    /// Where the last letters of base64 start in `held`.
    fn base64_start(&self, letters: usize) -> usize {
        let before = self.held.len() - self.skipped.len() - letters;
        before + self.skipped.partition_point(|letters_before| *letters_before <= before)
    }

    fn cover(&mut self, mut range: Range<usize>) {
        while let Some(last) = self.covered.pop_back_if(|last| last.end > range.start) {
            range = last.start.min(range.start)..last.end.max(range.end);
        }
        self.covered.push_back(range);
    }

    /// Passes on all but the last bytes, which may be the start of a secret.
    fn write_out(&mut self, undecided: usize, keep: &mut impl FnMut(&[u8])) {
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
        let mut breaks = 0;
        while self.skipped.pop_front_if(|before| *before + breaks < decided).is_some() {
            breaks += 1;
        }
        self.skipped.iter_mut().for_each(|before| *before -= decided - breaks);
        for range in &mut self.covered {
            *range = range.start - decided..range.end - decided;
        }
    }
}

#[cfg(test)]
mod tests;
