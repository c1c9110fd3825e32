//! Commands that a host's policy forbids.

use muster_protocol::CommandName;

/// The word for a forbidden replacement of the agent key, which is not a command.
const REKEY: &str = "rekey";
/// The word for forbidden packages of kind `service`.
const SERVICES: &str = "services";

/// Names of commands, `rekey` and `services`, that the policy of a host forbids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForbiddenCommands(Vec<String>);

impl ForbiddenCommands {
    /// What a host reports: unknown names are ignored, and each is kept once.
    pub fn reported(names: &[String]) -> Self {
        let known = CommandName::ALL.into_iter().filter(|name| name.is_lifecycle());
        let known = known.map(CommandName::as_str).chain([REKEY, SERVICES]);
        let is_named = |word: &&str| names.iter().any(|name| name == word);
        Self(known.filter(is_named).map(str::to_owned).collect())
    }

    /// Reads the stored form.
    pub fn stored(text: Option<&str>) -> Self {
        let names: Vec<_> = text.unwrap_or_default().split(' ').map(str::to_owned).collect();
        Self::reported(&names)
    }

    /// Names with spaces between them; `None` if nothing is forbidden.
    pub fn to_stored(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(" "))
    }

    /// True if the host refuses this command.
    pub fn contains(&self, command: CommandName) -> bool {
        self.0.iter().any(|name| name == command.as_str())
    }

    /// The names.
    pub fn names(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_kept_once_and_survive_storage() {
        let names = ["rekey", "restart", "restart", "ping", "<b>"].map(str::to_owned);
        let forbidden = ForbiddenCommands::reported(&names);
        assert_eq!(forbidden.to_stored().as_deref(), Some("restart rekey"));
        assert_eq!(ForbiddenCommands::stored(Some("restart rekey")), forbidden);
        assert!(forbidden.contains(CommandName::Restart));
        assert!(!forbidden.contains(CommandName::Ping));
        assert_eq!(ForbiddenCommands::stored(None), ForbiddenCommands::default());
    }
}
