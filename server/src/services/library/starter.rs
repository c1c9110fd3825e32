//! The starter library: scripts that are offered to every tenant, and saved only if a person asks for it.

use std::sync::LazyLock;

use muster_protocol::library::ScriptParameter;
use serde::Deserialize;

use super::Library;
use crate::domain::access::principal::Scope;
use crate::services::access::caller::Caller;
use crate::services::error::Result;

/// `script.toml` and the text of each script.
macro_rules! starter_scripts {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            include_str!(concat!("../../../../library/", $name, "/script.toml")),
            include_str!(concat!("../../../../library/", $name, "/", $name, ".sh")),
        )),*]
    };
}

static SCRIPTS: [(&str, &str, &str); 10] = starter_scripts![
    "certificate-expiry",
    "disk-report",
    "listening-ports",
    "log-tail",
    "network-check",
    "pending-updates",
    "reboot-needed",
    "service-restart",
    "top-processes",
    "user-audit",
];

/// The part of a `script.toml` that these scripts use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StarterToml {
    #[expect(dead_code, reason = "the file is named after the script")]
    file: String,
    interpreter: String,
    description: String,
    folder: String,
    tags: Vec<String>,
    timeout_ms: Option<u64>,
    #[serde(default)]
    parameters: Vec<ScriptParameter>,
}

/// A script that is offered.
#[derive(Debug, Clone)]
pub struct StarterScript {
    pub name: &'static str,
    pub description: String,
    pub folder: String,
    pub tags: Vec<String>,
    pub interpreter: String,
    pub parameters: Vec<ScriptParameter>,
    pub timeout_ms: Option<u64>,
    pub body: &'static str,
    /// The tenant's library has a script of this name, whether it is this one or another.
    pub is_in_library: bool,
}

static STARTER: LazyLock<Vec<StarterScript>> = LazyLock::new(|| {
    // A test reads all of them.
    SCRIPTS.iter().filter_map(|(name, text, body)| read(name, text, body).ok()).collect()
});

fn read(
    name: &'static str,
    text: &str,
    body: &'static str,
) -> std::result::Result<StarterScript, toml::de::Error> {
    let StarterToml { interpreter, description, folder, tags, timeout_ms, parameters, .. } =
        toml::from_str(text)?;
    Ok(StarterScript {
        name,
        description,
        folder,
        tags,
        interpreter,
        parameters,
        timeout_ms,
        body,
        is_in_library: false,
    })
}

impl Library {
    /// The scripts that are offered, by name.
    pub async fn starter(&self, caller: &Caller) -> Result<Vec<StarterScript>> {
        caller.require(Scope::ScriptsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut scripts = STARTER.clone();
        for script in &mut scripts {
            script.is_in_library = tenant.script_by_name(script.name).await?.is_some();
        }
        Ok(scripts)
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::library::{DOCUMENT_FORMAT, ScriptDocument, check_body, sha256_hex};

    use super::*;

    #[test]
    fn every_script_of_the_starter_library_can_be_saved() {
        for (name, text, body) in SCRIPTS {
            let script = read(name, text, body).expect(name);
            assert_eq!(check_body(body), Ok(()), "{name}");
            let document = ScriptDocument {
                format: DOCUMENT_FORMAT,
                name: name.into(),
                version: 1,
                sha256: sha256_hex(body.as_bytes()),
                interpreter: script.interpreter,
                parameters: script.parameters,
                timeout_ms: script.timeout_ms,
                has_trigger: false,
                requirements: None,
            };
            assert_eq!(document.check(), Ok(()), "{name}");
        }
    }
}
