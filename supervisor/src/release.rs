//! Where another version of the agent would come from: the seam to a release service.
//!
//! Knows nothing of processes or of the policy. An updater that fails leaves the installed version
//! as it was, and the caller starts that one: a failing update service never stops a working agent.

/// What the agent asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// The release that this host should be on (43).
    Wanted,
    /// The release that it is on, downloaded again (44).
    CurrentAfresh,
}

/// Why no release was fetched.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing to ask.
    #[error("no release service configured yet")]
    NotConfigured,
}

/// Fetches, verifies and swaps in a release.
pub trait Updater {
    /// Puts the release in place, so that the next start of the agent runs it.
    ///
    /// Repeats: fetching what is already in place is fine and changes nothing.
    ///
    /// # Errors
    /// Any [`UpdateError`]; what was installed before is then still in place and whole.
    fn fetch(&mut self, fetch: Fetch) -> Result<(), UpdateError>;
}

/// The updater of an installation that has no release service.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoReleases;

impl Updater for NoReleases {
    fn fetch(&mut self, _fetch: Fetch) -> Result<(), UpdateError> {
        Err(UpdateError::NotConfigured)
    }
}
