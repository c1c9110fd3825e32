//! A manifest that a host reports. Hosts are not trusted, so it is checked with the same rules that
//! honest hosts use for their file, and invisible characters are removed from its texts.

use muster_protocol::limits::MAX_SCRIPT_MANIFEST_BYTES;
use muster_protocol::manifest::Manifest;
use ring::digest;
use serde::Serialize;

use crate::domain::name::clean;

/// Which manifest of a host is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManifestInForce {
    /// The host's manifest file as it is.
    Newest,
    /// An earlier version: the file was rejected.
    Previous,
    /// None: the file was deleted or rejected, and no earlier version is in force.
    None,
}

impl ManifestInForce {
    /// Derives it from a report: a rejected file with the scripts that are permitted nevertheless.
    pub fn of(is_rejected: bool, script_count: i64) -> Self {
        match (is_rejected, script_count) {
            (false, _) => Self::Newest,
            (true, 0) => Self::None,
            (true, _) => Self::Previous,
        }
    }

    /// A sentence for the history of an agent about a rejected file; `None` if none was rejected.
    pub fn explain(self, reason: &str) -> Option<String> {
        match self {
            Self::Newest => None,
            Self::Previous => Some(format!("the previous manifest stays in force: {reason}")),
            Self::None => Some(format!("no manifest is in force: {reason}")),
        }
    }
}

/// A manifest that may be stored, and its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedManifest {
    pub manifest: Manifest,
    pub text: String,
}

impl ReportedManifest {
    /// Checks and cleans a report.
    ///
    /// # Errors
    /// A sentence that explains why the server does not use the manifest. It quotes the host.
    pub fn accept(mut manifest: Manifest) -> Result<Self, String> {
        manifest.check().map_err(|error| error.to_string())?;
        for script in &mut manifest.scripts {
            let texts = [Some(&mut script.path), script.interpreter.as_mut()];
            let texts = texts.into_iter().flatten().chain(&mut script.args);
            texts.chain(script.description.as_mut()).for_each(clean_text);
            for declaration in script.parameters.declared_mut() {
                let texts = declaration.default.as_mut().into_iter();
                texts.chain(declaration.description.as_mut()).for_each(clean_text);
            }
        }
        let text = serde_json::to_string(&manifest).map_err(|error| error.to_string())?;
        if text.len() > MAX_SCRIPT_MANIFEST_BYTES {
            return Err(format!("it is larger than {MAX_SCRIPT_MANIFEST_BYTES} bytes"));
        }
        Ok(Self { manifest, text })
    }

    /// A manifest without scripts, used for a rejected one.
    pub fn none() -> Self {
        Self { manifest: Manifest::default(), text: r#"{"scripts":[]}"#.to_owned() }
    }
}

fn clean_text(text: &mut String) {
    *text = clean(text, text.len());
}

/// SHA-256 of a manifest as JSON. Most hosts of a fleet share one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ManifestDigest(pub [u8; 32]);

impl ManifestDigest {
    /// The digest of a manifest, as it is stored.
    pub fn of(text: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }

    /// Reads a stored digest; `None` if it is malformed.
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accept(scripts: serde_json::Value) -> Result<ReportedManifest, String> {
        ReportedManifest::accept(
            serde_json::from_value(json!({"scripts": scripts})).expect("a manifest"),
        )
    }

    #[test]
    fn manifest_that_no_host_would_accept_is_refused() {
        let many: Vec<_> =
            (0..46_001).map(|n| json!({"name": n.to_string(), "path": "x"})).collect();
        let description = "x".repeat(1_000);
        let large: Vec<_> = (0..600)
            .map(|n| json!({"name": n.to_string(), "path": "x", "description": description}))
            .collect();
        for scripts in [
            json!(many),
            json!(large),
            json!([{"name": "<b>", "path": "x"}]),
            json!([{"name": "a", "path": "../x"}]),
            json!([{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]),
            json!([{"name": "a", "path": "x", "parameters": [{"name": "LD_PRELOAD"}]}]),
            json!([{"name": "a", "path": "x", "description": "x".repeat(1_025)}]),
        ] {
            assert!(accept(scripts).is_err_and(|reason| reason.len() < 1_000));
        }
        assert_eq!(ReportedManifest::accept(Manifest::default()), Ok(ReportedManifest::none()));
    }

    #[test]
    fn texts_of_a_reported_manifest_lose_invisible_characters() {
        let hidden = "a\u{1b}[2J\u{202e}\u{200b}b\nc";
        let accepted = accept(json!([{"name": "a", "path": hidden, "interpreter": hidden,
            "args": [hidden], "description": hidden, "parameters":
            [{"name": "A", "default": hidden, "description": hidden}]}]));
        let ReportedManifest { text, .. } = accepted.expect("valid");
        assert_eq!(text.matches("a[2Jbc").count(), 6, "{text}");
        assert!(!text.contains("\\n") && !text.contains("\\u"), "{text}");
        assert!(!text.contains(crate::domain::name::is_invisible), "{text}");
    }
}
