//! Does what the operator asks by the control socket, one request after the other.

use std::time::Duration;

use muster_protocol::error_chain;

use crate::adapters::control_socket::{ControlListener, ControlReply, ControlRequest};
use crate::services::operations::key_rotations::{KeyRotationError, KeyRotations};

/// How often a replaced key is looked at, to forget it.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Pause after the socket could not accept a connection.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped, or until its task ends.
pub async fn run(listener: ControlListener, rotations: KeyRotations) {
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = tokio::time::sleep(CHECK_INTERVAL) => {
                if let Err(error) = rotations.finish().await {
                    let error = error_chain(&error);
                    tracing::warn!(error, "failed to forget the previous master key; retrying");
                }
                continue;
            }
        };
        match connection {
            Ok(connection) => {
                let reply = answer(&rotations, connection.request).await;
                connection.reply(&reply).await;
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection of the control socket");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn answer(rotations: &KeyRotations, request: ControlRequest) -> ControlReply {
    let done = match request {
        ControlRequest::RotateMasterKey => rotate_master_key(rotations).await,
        ControlRequest::RotateAuditKey => rotate_audit_key(rotations).await,
    };
    done.unwrap_or_else(|error| ControlReply::Failed { reason: error_chain(&error) })
}

/// Replaces the master key, for the server and for the command of a stopped one.
///
/// # Errors
/// [`KeyRotationError`].
pub async fn rotate_master_key(rotations: &KeyRotations) -> Result<ControlReply, KeyRotationError> {
    let done = rotations.rotate_master_key().await?;
    Ok(ControlReply::MasterKeyRotated {
        sealed: done.sealed,
        unreadable: done.unreadable,
        file: done.file,
        previous_file: done.previous_file,
    })
}

/// Replaces the key of audit logs, for the server and for the command of a stopped one.
///
/// # Errors
/// [`KeyRotationError`].
pub async fn rotate_audit_key(rotations: &KeyRotations) -> Result<ControlReply, KeyRotationError> {
    let done = rotations.rotate_audit_key().await?;
    Ok(ControlReply::AuditKeyRotated {
        logs: done.logs,
        previous: done.previous.to_string(),
        present: done.present.to_string(),
    })
}
