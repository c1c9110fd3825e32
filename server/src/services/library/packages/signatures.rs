//! Signatures of publishers about packages. The server stores and hands them on; only hosts know which
//! keys they trust.

use muster_protocol::library::{ScriptSignature, sha256_hex};
use muster_protocol::package::{MAX_PACKAGE_SIGNATURES, SignedPackage};
use serde_json::json;

use super::{PackageSnapshot, Packages, UNKNOWN, require_write, subject};
use crate::domain::ids::{PackageId, PackageSignatureId};
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::library::package_signature;

impl Packages {
    /// Stores a signature of a package, instead of an earlier one of the same publisher.
    ///
    /// # Errors
    /// 422 if it is not about this package, so that a person learns of a mistake here and not from each
    /// host; 409 `too_many_signatures`.
    pub async fn sign(
        &self,
        caller: &Caller,
        id: PackageId,
        signature: ScriptSignature,
    ) -> Result<PackageSnapshot> {
        require_write(caller)?;
        let package = self.find(caller, id).await?;
        let invalid = |problem: &str| Err(ServiceError::invalid_field("statement", problem));
        if !signature.is_bounded() {
            return invalid("is too large");
        }
        let signed = match signature.read::<SignedPackage>() {
            Ok(signed) => signed,
            Err(error) => return invalid(&format!("is not valid: {error}")),
        };
        if signature.open::<SignedPackage>(&[signed.publisher]).is_err() {
            return invalid("was signed by another key than it names");
        }
        let document_sha256 = sha256_hex(package.document.as_bytes());
        let document = package.content().ok_or(UNKNOWN)?;
        if !signed.is_about(&document, &document_sha256) {
            return invalid("is about another package or version");
        }
        let now = self.clock.now();
        let row = package_signature::Model {
            id: PackageSignatureId::new(),
            tenant_id: package.tenant_id,
            package_id: id,
            publisher: signed.publisher.to_string(),
            statement: signature.statement,
            signature: signature.signature,
            created_at: now,
        };
        let detail = json!({
            "name": package.name, "version": package.version, "document_sha256": document_sha256,
            "publisher": signed.publisher.fingerprint().to_string(),
        });
        let audit = caller.audit("package.sign", subject(id), &detail, now);
        let tenant = self.store.tenant(package.tenant_id);
        if !tenant.sign_package(row, MAX_PACKAGE_SIGNATURES as u64, audit).await? {
            return Err(ServiceError::Conflict {
                code: "too_many_signatures",
                detail: format!("a package has at most {MAX_PACKAGE_SIGNATURES} signatures"),
            });
        }
        // Hosts that refuse it until now get the signature with their assignments.
        self.assignments_changed.notify_one();
        self.with_signatures(package).await
    }
}
