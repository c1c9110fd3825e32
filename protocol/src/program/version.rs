//! The version of a program, stamped into its file so that it can be read from there too.
//!
//! A release contains programs for platforms that the publisher can't run: the stamp shows their
//! version.

use std::hint::black_box;

use semver::Version;

const MARK: &[u8] = b"muster-version:";
const STAMP_BYTES: usize = 64;

/// [`MARK`], the version, zeros.
#[used]
static STAMP: [u8; STAMP_BYTES] = stamp(env!("CARGO_PKG_VERSION").as_bytes());

const fn stamp(version: &[u8]) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        stamp[at] = MARK[at];
        at += 1;
    }
    let mut read = 0;
    // At least one zero remains at the end.
    while read < version.len() && at + read + 1 < STAMP_BYTES {
        stamp[at + read] = version[read];
        read += 1;
    }
    stamp
}

/// The version of this program, such as `0.1.0`.
pub fn own() -> &'static str {
    // Reads the static itself and not a copy made by the compiler, so that the file contains it.
    let stamp: &'static [u8; STAMP_BYTES] = black_box(&STAMP);
    version_of(&stamp[MARK.len()..]).unwrap_or(env!("CARGO_PKG_VERSION"))
}

/// Reads the version from a program's file; `None` if it has no stamp.
pub fn read_stamp(program: &[u8]) -> Option<Version> {
    let mut rest = program;
    while let Some(at) = find(rest, MARK) {
        rest = &rest[at + MARK.len()..];
        let stamp = &rest[..rest.len().min(STAMP_BYTES - MARK.len())];
        if let Some(version) = version_of(stamp).and_then(|text| text.parse().ok()) {
            return Some(version);
        }
    }
    None
}

fn version_of(stamp: &[u8]) -> Option<&str> {
    let end = stamp.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&stamp[..end]).ok()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    // Searching the first byte with the standard library is fast.
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == wanted[0]) {
        let at = from + at;
        if text[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_stamp_can_be_read_from_the_programs_file() {
        assert_eq!(own(), env!("CARGO_PKG_VERSION"));
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(read_stamp(&program).unwrap().to_string(), own());
    }

    #[test]
    fn incomplete_stamps_are_skipped() {
        let mut program = b"muster-version: muster-version:no version\0 mm".to_vec();
        assert_eq!(read_stamp(&program), None);
        program.extend_from_slice(&stamp(b"1.2.3-rc.1"));
        assert_eq!(read_stamp(&program).unwrap().to_string(), "1.2.3-rc.1");
        assert_eq!(read_stamp(&program[..program.len() - 45]), None);
    }
}
