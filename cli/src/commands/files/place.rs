//! Where a file is: `AGENT:PATH`.

use crate::error::CliError;

/// A path on some agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// Ids, names or hostnames.
    pub agents: Vec<&'a str>,
    pub path: &'a str,
}

/// Reads `AGENT:PATH`, or several agents with commas between. The path is a full one, so the first `:/` is where
/// it starts.
///
/// # Errors
/// [`CliError::Usage`]
pub fn read(text: &str) -> Result<Place<'_>, CliError> {
    let wrong = || {
        CliError::Usage(format!(
            "invalid place \"{text}\": use AGENT:PATH with a full path, such as web-1:/srv/app.conf"
        ))
    };
    let at = text.find(":/").ok_or_else(wrong)?;
    let agents: Vec<&str> = text[..at].split(',').filter(|name| !name.is_empty()).collect();
    match agents.is_empty() {
        true => Err(wrong()),
        false => Ok(Place { agents, path: &text[at + 1..] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_agents_and_a_full_path() {
        let place = read("web-1:/srv/a:/b").expect("valid");
        assert_eq!((place.agents, place.path), (vec!["web-1"], "/srv/a:/b"));
        assert_eq!(read("a,b:/x").expect("valid").agents, ["a", "b"]);
        for wrong in ["web-1", "web-1:srv/a", ":/srv/a", "/srv/a", ""] {
            read(wrong).expect_err(wrong);
        }
    }
}
