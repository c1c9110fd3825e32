//! A manifest that an agent reports: the server stores it checked, clean and bounded, or not at all.

use muster_protocol::limits::{MAX_MANIFEST_SCRIPTS, MAX_SCRIPT_MANIFEST_BYTES};
use muster_protocol::manifest::Manifest;
use muster_server::domain::fleet::reported_manifest::ReportedManifest;
use muster_server::domain::name::is_invisible;

pub fn check(bytes: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    match ReportedManifest::accept(manifest) {
        Ok(ReportedManifest { manifest, text }) => {
            assert!(text.len() <= MAX_SCRIPT_MANIFEST_BYTES);
            assert!(manifest.scripts.len() <= MAX_MANIFEST_SCRIPTS);
            assert!(!text.contains(is_invisible), "{text}");
            let read: Manifest = serde_json::from_str(&text).expect("just written");
            // Cleaning may leave a path empty; such a script is never sent, and never accepted again.
            if let Ok(again) = ReportedManifest::accept(read) {
                assert_eq!(again.text, text, "accepting it again changes it");
            }
        }
        Err(reason) => {
            let length = reason.chars().count();
            assert!((1..=super::MAX_REFUSAL_CHARS).contains(&length), "{reason:.200}");
        }
    }
}
