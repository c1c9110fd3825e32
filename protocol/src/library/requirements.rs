//! What a script needs beside its interpreter: a `requirements.txt`.

/// Largest `requirements.txt`, in bytes.
pub const MAX_REQUIREMENTS_BYTES: usize = 16 * 1024;
/// Most lines of it.
pub const MAX_REQUIREMENTS_LINES: usize = 256;

/// Checks a `requirements.txt`. It names packages and nothing else: where they come from is decided by the
/// host. So it has no options except `--hash`, no addresses and no paths.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn check_requirements(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_REQUIREMENTS_BYTES || text.lines().count() > MAX_REQUIREMENTS_LINES {
        return Err("must be at most 16 KiB and 256 lines");
    }
    // Installers end a line at other characters, too, such as U+2028 and a carriage return alone.
    let text = text.replace("\r\n", "\n");
    if text.contains(|char: char| !matches!(char, '\n' | '\t' | ' '..='~')) {
        return Err("must be ASCII text without control characters");
    }
    // Some installers continue a comment in the next line, others end it.
    if text.lines().any(|line| line.contains('#') && line.contains('\\')) {
        return Err("must not have a backslash in a line with a comment");
    }
    let mut has_package = false;
    for line in text.replace("\\\n", " ").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A comment needs a space before it.
        let line = line.split(" #").next().unwrap_or(line);
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.starts_with(|char: char| char.is_ascii_alphanumeric()) {
            return Err("must name packages; options other than `--hash` are not allowed");
        }
        if words.any(|word| word.starts_with('-') && !word.starts_with("--hash=")) {
            return Err("must not have options other than `--hash`");
        }
        if line.contains(['@', '/', '$', '\\']) {
            return Err("must name packages, not addresses, paths or variables");
        }
        has_package = true;
    }
    if has_package { Ok(()) } else { Err("must name at least one package") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_name_packages_and_their_hashes() {
        for right in [
            "requests",
            "requests==2.32.3\n",
            "# comment\nrequests[socks]>=2,<3 ; python_version >= '3.8'  # why\n",
            "six==1.16.0 --hash=sha256:00ff \\\n    --hash=sha256:11ee\n",
        ] {
            assert_eq!(check_requirements(right), Ok(()), "{right}");
        }
    }

    #[test]
    fn requirements_never_name_an_index_an_address_or_a_file() {
        for wrong in [
            "",
            "# nothing",
            "--index-url https://evil.example\nx",
            "-i https://evil.example",
            "--extra-index-url=https://evil.example",
            "x --index-url https://evil.example",
            "x --global-option=y",
            "-e .",
            "-r other.txt",
            "--trusted-host evil.example",
            "x @ https://evil.example/x.whl",
            "x@file:///etc/passwd",
            "./x.whl",
            "/x.whl",
            "x.d/y.whl",
            "https://evil.example/x.whl",
            "x \\\n --index-url https://evil.example",
            "x==${VERSION}",
            "x\u{1b}",
            "x # note \\\n--index-url https://evil.example",
            "# note \\\n--index-url https://evil.example\nx",
            "x # note\r--index-url https://evil.example",
            "x # note\u{2028}--index-url https://evil.example",
            "x # note\u{85}--index-url https://evil.example",
            "ｘ",
        ] {
            assert!(check_requirements(wrong).is_err(), "{wrong}");
        }
        assert!(check_requirements(&"x".repeat(MAX_REQUIREMENTS_BYTES + 1)).is_err());
        assert!(check_requirements(&"x\n".repeat(MAX_REQUIREMENTS_LINES + 1)).is_err());
    }
}
