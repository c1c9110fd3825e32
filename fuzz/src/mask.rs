//! Masking of secrets in output: the result does not depend on how the output is split into reads,
//! and contains no secret.

use muster_agent::executions::shim::mask::{MIN_SECRET_BYTES, Masker, Masks};
use muster_protocol::parameter::Parameters;

/// The mask's own characters; masking may create a secret of the same letter.
const MASK_LETTER: char = '*';

/// The first line contains the secrets, separated by tabs; the next byte is the length of the
/// reads.
pub fn check(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (line, mut output) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let values: Vec<&str> = line.split('\t').take(8).collect();
    let named = values.iter().enumerate().map(|(n, value)| (format!("S{n}"), (*value).to_owned()));
    let secrets = named.collect::<Parameters>().into();
    let Some(masks) = Masks::of(&secrets).expect("few and short") else { return };
    let length = super::take_byte(&mut output) % 16 + 1;

    let whole = masked(Masker::new(masks.clone()), output, output.len().max(1));
    assert_eq!(masked(Masker::new(masks.clone()), output, length), whole);
    assert_eq!(masked(Masker::new(masks), output, 1), whole);
    for value in values {
        let value = value.trim_end_matches(['\r', '\n']).as_bytes();
        let is_masked = value.len() >= MIN_SECRET_BYTES && !value.contains(&(MASK_LETTER as u8));
        let is_left = is_masked && whole.windows(value.len()).any(|part| part == value);
        assert!(!is_left, "a secret is not masked");
    }
}

fn masked(mut masker: Masker, output: &[u8], length: usize) -> Vec<u8> {
    let mut kept = Vec::with_capacity(output.len());
    for read in output.chunks(length) {
        masker.push(read, &mut |bytes| kept.extend_from_slice(bytes));
    }
    masker.finish(&mut |bytes| kept.extend_from_slice(bytes));
    kept
}
