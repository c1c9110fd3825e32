//! What a script needs beside its interpreter: a `requirements.txt`.

/// Largest `requirements.txt`, in bytes.
pub const MAX_REQUIREMENTS_BYTES: usize = 16 * 1024;
/// Most lines of it.
pub const MAX_REQUIREMENTS_LINES: usize = 256;

/// File names that an installer takes for an archive beside the file.
const ARCHIVES: [&str; 9] = [".whl", ".zip", ".gz", ".tgz", ".tar", ".bz2", ".tbz", ".xz", ".lzma"];

/// Checks a `requirements.txt`. It names packages and nothing else: where they come from is decided by the
/// host. So it has no options except `--hash`, no addresses and no paths.
///
/// # Errors
/// A problem as the end of a sentence about it.
pub fn check_requirements(text: &str) -> Result<(), &'static str> {
    plain_requirements(text).map(drop)
}

/// The requirements without comments, one in a line, so that every installer reads the same as this check.
///
/// # Errors
/// As [`check_requirements`].
pub fn plain_requirements(text: &str) -> Result<String, &'static str> {
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
    let mut plain = String::new();
    for line in text.replace("\\\n", " ").lines() {
        let line = line.trim();
        // A comment needs a space before it.
        let line = if line.starts_with('#') { "" } else { line };
        let line = line.split(" #").next().unwrap_or(line);
        if !line.trim().is_empty() {
            plain.push_str(&plain_requirement(line)?);
            plain.push('\n');
        }
    }
    if plain.is_empty() { Err("must name at least one package") } else { Ok(plain) }
}

/// `name[extra] versions ; marker --hash=algorithm:hex`, without needless spaces.
fn plain_requirement(line: &str) -> Result<String, &'static str> {
    let is_option = |word: &&str| word.starts_with("--hash=");
    let hashes: Vec<_> = line.split_whitespace().skip_while(|word| !is_option(word)).collect();
    for hash in &hashes {
        let (algorithm, digest) = hash
            .strip_prefix("--hash=")
            .and_then(|hash| hash.split_once(':'))
            .ok_or("must have nothing behind `--hash` but other hashes")?;
        let is_hash = algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !digest.is_empty()
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return Err("must have hashes such as `--hash=sha256:` and hex digits");
        }
    }
    let words: Vec<_> = line.split_whitespace().take_while(|word| !is_option(word)).collect();
    if words.iter().any(|word| word.starts_with('-')) {
        return Err("must name packages; options other than `--hash` are not allowed");
    }
    let requirement = words.join(" ");
    let (package, marker) = requirement.split_once(';').unwrap_or((&requirement, ""));
    let is_of = |text: &str, signs: &str| {
        text.chars().all(|char| char.is_ascii_alphanumeric() || signs.contains(char))
    };
    if !package.starts_with(|char: char| char.is_ascii_alphanumeric())
        || !is_of(package, " .-_[](),<>=!~*+")
        || !is_of(marker, " .-_(),<>=!~*+'\"")
    {
        return Err("must name packages with versions, not addresses, paths or variables");
    }
    let end = package.find(|char: char| !is_of(&char.to_string(), ".-_")).unwrap_or(package.len());
    let name = package[..end].to_ascii_lowercase();
    if ARCHIVES.iter().any(|archive| name.ends_with(archive)) {
        return Err("must name packages, not files");
    }
    let words = std::iter::once(requirement.as_str()).chain(hashes);
    Ok(words.collect::<Vec<_>>().join(" "))
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
            "file:%2Ftmp%2Fx-5.0-py3-none-any.whl",
            "x-5.0-py3-none-any.whl",
            "x.tar.gz",
            "x --hash=sha256:00 '--config-settings=a=b'",
            "x --hash=sha256:00 y",
            "x --hash=sha256:0g",
            "x; y == \"${HOME}\"",
            "# coding: utf-7\nx\n+AAo---index-url https://evil.example",
        ] {
            assert!(check_requirements(wrong).is_err(), "{wrong}");
        }
        assert!(check_requirements(&"x".repeat(MAX_REQUIREMENTS_BYTES + 1)).is_err());
        assert!(check_requirements(&"x\n".repeat(MAX_REQUIREMENTS_LINES + 1)).is_err());
    }

    #[test]
    fn installers_get_one_requirement_in_a_line_and_no_comment() {
        let text = "# coding: utf-7\r\nsix==1.16.0 \\\r\n  --hash=sha256:00ff # why\n\nrequests [socks] >= 2 ; python_version >= '3.8'\n";
        let plain = "requests [socks] >= 2 ; python_version >= '3.8'\n";
        assert_eq!(
            plain_requirements(text).as_deref(),
            Ok(format!("six==1.16.0 --hash=sha256:00ff\n{plain}").as_str())
        );
    }
}
