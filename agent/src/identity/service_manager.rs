//! What starts this agent on its host: from the container's image, or as `deploy.sh` recorded it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use muster_protocol::frame::SERVICE_MANAGERS;

/// Names the service manager where no installation records it, as in a container.
const VARIABLE: &str = "MUSTER_SERVICE_MANAGER";
/// Most bytes that are read of the record.
const MAX_RECORD_BYTES: u64 = 4096;

/// One of [`SERVICE_MANAGERS`]; `None` if it is not known.
pub fn of_this_host() -> Option<String> {
    if let Ok(word) = std::env::var(VARIABLE) {
        return known(&word);
    }
    let mut record = String::new();
    let file = File::open(own_program_dir()?.join("installation")).ok()?;
    file.take(MAX_RECORD_BYTES).read_to_string(&mut record).ok()?;
    recorded(&record)
}

/// The program folder of the installation that this program belongs to:
/// `DIR/versions/VERSION/bin/muster-agent`.
pub fn own_program_dir() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let versions = own.ancestors().nth(3)?;
    (versions.file_name()? == "versions").then(|| versions.parent().map(Path::to_owned))?
}

fn recorded(record: &str) -> Option<String> {
    record.lines().find_map(|line| line.strip_prefix("service=")).and_then(known)
}

fn known(word: &str) -> Option<String> {
    SERVICE_MANAGERS.into_iter().find(|known| *known == word.trim()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_installation_names_a_known_service_manager_or_none() {
        let record = "layout=1\nscope=system\nservice=openrc\nname=muster-agent\n";
        assert_eq!(recorded(record).as_deref(), Some("openrc"));
        for other in ["", "layout=1\n", "service=\n", "service=launchd\n", "xservice=cron\n"] {
            assert_eq!(recorded(other), None, "{other}");
        }
    }
}
