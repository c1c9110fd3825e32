//! Replaces the keys of this server, one at a time, also while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::audit_key::AuditKeyError;
use super::audit_key_rotation::{self, AuditKeyRotation};
use super::master_key::KeyLocations;
use super::master_key_rotation::{self, MasterKeyRotation, RotationError};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::authentication::Authentication;
use crate::services::access::people::access_tokens::AccessTokens;
use crate::store::blobs::permit_changes;
use crate::store::{Store, StoreError};

/// How long the previous master key still opens what a slow request sealed with it before.
const PREVIOUS_KEY_KEPT: Duration = Duration::from_secs(60);

/// A key can't be replaced now.
#[derive(Debug, thiserror::Error)]
pub enum KeyRotationError {
    #[error("a key is already being replaced; wait for its end")]
    Busy,
    #[error("a backup is being made; wait for its end")]
    Backup,
    #[error("failed to lock the data directory")]
    Lock(#[source] std::io::Error),
    #[error("failed to replace the master key")]
    MasterKey(#[from] RotationError),
    #[error("failed to replace the key of audit logs")]
    AuditKey(#[from] AuditKeyError),
}

/// Replaces keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRotations(Arc<KeyRotationsInner>);

#[derive(Debug)]
struct KeyRotationsInner {
    store: Store,
    clock: Clock,
    secret_box: SecretBox,
    /// Of the running server.
    tokens: Option<AccessTokens>,
    /// Where the master key is; `None` if it is in the environment.
    key_file: Option<PathBuf>,
    output_folder: PathBuf,
    running: Mutex<()>,
    /// When the master key was replaced, until the previous one is forgotten.
    replaced_at: StdMutex<Option<Instant>>,
}

impl KeyRotations {
    /// For a store that no other process has open. `authentication`: of the running server, whose access
    /// tokens end with the master key.
    pub fn new(
        (store, secret_box): (&Store, &SecretBox),
        clock: &Clock,
        locations: KeyLocations,
        output_folder: PathBuf,
        authentication: Option<&Authentication>,
    ) -> Self {
        let key_file = match locations.text {
            Some(_) => None,
            None => Some(locations.file.unwrap_or(locations.own_file)),
        };
        Self(Arc::new(KeyRotationsInner {
            store: store.clone(),
            clock: clock.clone(),
            secret_box: secret_box.clone(),
            tokens: authentication.and_then(|of_server| of_server.tokens.clone()),
            key_file,
            output_folder,
            running: Mutex::default(),
            replaced_at: StdMutex::default(),
        }))
    }

    /// Replaces the master key, or finishes a rotation that was interrupted.
    ///
    /// # Errors
    /// [`KeyRotationError`]; run it again to finish.
    pub async fn rotate_master_key(&self) -> Result<MasterKeyRotation, KeyRotationError> {
        let shared = &self.0;
        let file = shared.key_file.as_ref().ok_or(RotationError::FromEnvironment)?;
        let _running = shared.running.try_lock().map_err(|_| KeyRotationError::Busy)?;
        let permit = permit_changes(&shared.output_folder).map_err(KeyRotationError::Lock)?;
        let _permit = permit.ok_or(KeyRotationError::Backup)?;
        let (secret_box, tokens) = (&shared.secret_box, shared.tokens.as_ref());
        let rotation =
            master_key_rotation::rotate(&shared.store, secret_box, tokens, file, &shared.clock);
        let done = rotation.await?;
        *shared.replaced_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        tracing::info!(
            sealed = done.sealed,
            unreadable = done.unreadable,
            "replaced the master key"
        );
        Ok(done)
    }

    /// Replaces the key that signs audit logs, or finishes a rotation that was interrupted.
    ///
    /// # Errors
    /// [`KeyRotationError`]; run it again to finish.
    pub async fn rotate_audit_key(&self) -> Result<AuditKeyRotation, KeyRotationError> {
        let shared = &self.0;
        let _running = shared.running.try_lock().map_err(|_| KeyRotationError::Busy)?;
        let rotation = audit_key_rotation::rotate(&shared.store, &shared.secret_box, &shared.clock);
        let done = rotation.await?;
        tracing::info!(logs = done.logs, key = %done.present, "replaced the key of audit logs");
        Ok(done)
    }

    /// Seals again what requests had sealed with the previous master key and stored after its rotation, and
    /// forgets that key.
    ///
    /// # Errors
    /// [`StoreError`]; the next run tries again.
    pub async fn finish(&self) -> Result<(), StoreError> {
        let shared = &self.0;
        let Ok(_running) = shared.running.try_lock() else { return Ok(()) };
        let replaced_at = *shared.replaced_at.lock().unwrap_or_else(PoisonError::into_inner);
        if replaced_at.is_none_or(|at| at.elapsed() < PREVIOUS_KEY_KEPT) {
            return Ok(());
        }
        match master_key_rotation::seal_again(&shared.store, &shared.secret_box).await {
            Ok((sealed, _)) => {
                tracing::info!(sealed, "the previous master key opens nothing any more");
                shared.secret_box.forget_previous();
                *shared.replaced_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
            Err(RotationError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "failed to seal values with the new master key");
                Ok(())
            }
        }
    }
}
