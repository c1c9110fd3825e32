//! Rules for what people type about a script, beside those that hosts share.

use muster_protocol::library::is_script_folder;

/// Longest folder, in bytes.
pub const MAX_FOLDER_BYTES: usize = 256;
/// Longest description of a script, in characters.
pub const MAX_SCRIPT_DESCRIPTION_CHARS: usize = 2_048;
/// Longest message of a version, in characters.
pub const MAX_VERSION_MESSAGE_CHARS: usize = 512;
/// Longest text of a search, in characters.
pub const MAX_SEARCH_CHARS: usize = 128;

/// Checks a folder: empty, or parts like names of scripts with `/` between them.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn check_folder(folder: &str) -> Result<(), &'static str> {
    if folder.len() <= MAX_FOLDER_BYTES && is_script_folder(folder) {
        return Ok(());
    }
    Err(
        "must be empty or parts of letters, digits, `.`, `_`, `-` with `/` between them, none of which starts with a dot or has more than 128; at most 256 bytes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_path_without_a_way_out() {
        for folder in ["", "a", "ops/disk.d", "a-b/c_d/e"] {
            assert_eq!(check_folder(folder), Ok(()), "{folder}");
        }
        for folder in
            ["/", "/a", "a/", "a//b", "..", "a/../b", ".git", "a/.b", "a b", "ü", &"a".repeat(257)]
        {
            assert!(check_folder(folder).is_err(), "{folder}");
        }
    }
}
