//! Signatures of publishers. The server stores and hands them on; only hosts know which keys they trust.

use muster_protocol::library::{MAX_SIGNATURES, ScriptSignature, SignedScript, sha256_hex};
use serde_json::json;

use super::changes::require_write;
use super::{Library, VersionSnapshot, subject};
use crate::domain::ids::{ScriptId, ScriptSignatureId};
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::library::script_signature;

impl Library {
    /// Stores a signature of a version, instead of an earlier one of the same publisher.
    ///
    /// # Errors
    /// 422 if it is not about this version, so that a person learns of a mistake here and not from each
    /// host; 409 `too_many_signatures`.
    pub async fn sign(
        &self,
        caller: &Caller,
        id: ScriptId,
        version: u32,
        signature: ScriptSignature,
    ) -> Result<VersionSnapshot> {
        require_write(caller)?;
        let script = self.find(caller, id).await?;
        let found = self.find_version(caller, id, version).await?;
        let invalid = |problem: &str| Err(ServiceError::invalid_field("statement", problem));
        if !signature.is_bounded() {
            return invalid("is too large");
        }
        let signed = match signature.read::<SignedScript>() {
            Ok(signed) => signed,
            Err(error) => return invalid(&format!("is not valid: {error}")),
        };
        if signature.open::<SignedScript>(&[signed.publisher]).is_err() {
            return invalid("was signed by another key than it names");
        }
        let document_sha256 = sha256_hex(found.row.document.as_bytes());
        let is_of_version = (signed.name.as_str(), signed.version) == (&*script.name, version)
            && signed.document_sha256 == document_sha256;
        if !is_of_version {
            return invalid("is about another script or version");
        }
        let now = self.clock.now();
        let row = script_signature::Model {
            id: ScriptSignatureId::new(),
            tenant_id: script.tenant_id,
            version_id: found.row.id,
            publisher: signed.publisher.to_string(),
            statement: signature.statement,
            signature: signature.signature,
            created_at: now,
        };
        let detail = json!({
            "name": script.name, "version": version, "document_sha256": document_sha256,
            "publisher": signed.publisher.fingerprint().to_string(),
        });
        let audit = caller.audit("script.sign", subject(id), &detail, now);
        let tenant = self.store.tenant(script.tenant_id);
        if !tenant.sign_script_version(row, MAX_SIGNATURES as u64, audit).await? {
            return Err(ServiceError::Conflict {
                code: "too_many_signatures",
                detail: format!("a version has at most {MAX_SIGNATURES} signatures"),
            });
        }
        self.assignments_changed.notify_one();
        self.version(caller, id, version).await
    }
}
