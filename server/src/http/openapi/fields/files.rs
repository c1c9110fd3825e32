//! Fields of transferred files: bounds and patterns from the constants that the server checks.

use muster_protocol::commands::file_transfer::{MAX_FILE_BYTES, MAX_FILE_PATH_BYTES};
use serde_json::{Value, json};

use super::super::shapes::or_null;
use crate::services::library::files::MAX_FILE_NAME_CHARS;

/// A full path whose parts are plain names.
const PATH: &str = r"^(/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f-\x9f]{1,255})+$";
/// Hex SHA-256.
const SHA256: &str = "^[0-9a-f]{64}$";
/// Three octal digits, perhaps after a zero.
const MODE: &str = "^0?[0-7]{3}$";
/// A user of a host.
const OWNER: &str = "^[A-Za-z_][A-Za-z0-9_.-]{0,31}$";

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let sha256 = json!({"type": "string", "pattern": SHA256});
    let bytes = json!({"type": "integer", "minimum": 0, "maximum": MAX_FILE_BYTES});
    vec![
        ("FileBody", "bytes", bytes.clone()),
        (
            "FileBody",
            "name",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_FILE_NAME_CHARS,
                "pattern": r"^[^/\x00-\x1f\x7f-\x9f]*$"}),
        ),
        ("FileBody", "sha256", sha256.clone()),
        ("FileTransferBody", "bytes", or_null(&bytes)),
        ("FileTransferBody", "mode", json!({"type": ["string", "null"], "pattern": MODE})),
        ("FileTransferBody", "owner", json!({"type": ["string", "null"], "pattern": OWNER})),
        (
            "FileTransferBody",
            "path",
            json!({"type": "string", "maxLength": MAX_FILE_PATH_BYTES, "pattern": PATH}),
        ),
        ("FileTransferBody", "sha256", or_null(&sha256)),
    ]
}
