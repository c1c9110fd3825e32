//! Receives the bytes of a file, from where the last request ended.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::commands::file_transfer::MAX_FILE_BYTES;
use tokio::task::spawn_blocking;

use super::{FileLibrary, FileSnapshot, UNKNOWN, UNUSABLE, detail, refused, subject};
use crate::adapters::uploaded_files::OpenUpload;
use crate::domain::access::principal::Scope;
use crate::domain::ids::FileId;
use crate::domain::library::uploaded_file::UploadedFileRecord;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Bytes that are collected before they are written.
const WRITTEN_AT_ONCE: usize = 256 * 1024;

/// A file that is being received. What has arrived stays if it is dropped.
pub struct FileUpload {
    files: FileLibrary,
    caller: Caller,
    row: UploadedFileRecord,
    /// `None` while a write is in progress.
    receiving: Option<Box<OpenUpload>>,
    pending: Vec<u8>,
    _reservation: UploadReservation,
}

/// Only one request at a time continues a file.
struct UploadReservation {
    files: FileLibrary,
    id: FileId,
}

impl Drop for UploadReservation {
    fn drop(&mut self) {
        self.files.release(self.id);
    }
}

impl FileLibrary {
    /// Continues a file at an offset.
    ///
    /// # Errors
    /// 404; 409 `file_complete`, `upload_in_progress`, or `wrong_offset` with the right one; 429
    /// `too_many_uploads`; 503 `no_space`.
    pub async fn upload(
        &self,
        caller: &Caller,
        id: FileId,
        offset_bytes: u64,
    ) -> Result<FileUpload> {
        caller.require(Scope::FilesWrite)?;
        let row = self.find(caller, id).await?;
        if offset_bytes > MAX_FILE_BYTES {
            let bounds = 0..=MAX_FILE_BYTES;
            return Err(ServiceError::out_of_range("offset_bytes", offset_bytes, bounds));
        }
        let conflict = |code, detail| Err(ServiceError::Conflict { code, detail });
        if row.completed_at.is_some() {
            return conflict("file_complete", "all bytes of the file are there".to_owned());
        }
        if !self.reserve(id)? {
            return conflict("upload_in_progress", "another request sends this file".to_owned());
        }
        let reservation = UploadReservation { files: self.clone(), id };
        let (files, most_bytes) = (Arc::clone(&self.files), row.size_bytes.unsigned_abs());
        let opened = spawn_blocking(move || files.open(id, most_bytes)).await;
        let receiving = opened.map_err(|_| UNUSABLE)?.map_err(refused)?;
        let length_bytes = receiving.length_bytes();
        if length_bytes != offset_bytes {
            return conflict(
                "wrong_offset",
                format!("the upload continues at {length_bytes} bytes"),
            );
        }
        Ok(FileUpload {
            files: self.clone(),
            caller: caller.clone(),
            row,
            receiving: Some(Box::new(receiving)),
            pending: Vec::new(),
            _reservation: reservation,
        })
    }
}

impl FileUpload {
    /// Adds received bytes.
    ///
    /// # Errors
    /// 422 if the file has more bytes than its upload named.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        match self.pending.len() {
            0..WRITTEN_AT_ONCE => Ok(()),
            _ => self.flush().await,
        }
    }

    /// Ends the request. If all bytes are there, they are checked, and the file can be pushed.
    ///
    /// # Errors
    /// 422 `hash_mismatch`: the upload is deleted then.
    pub async fn finish(mut self) -> Result<FileSnapshot> {
        self.flush().await?;
        let received_bytes = self.receiving.take().ok_or(UNUSABLE)?.length_bytes();
        if received_bytes < self.row.size_bytes.unsigned_abs() {
            return Ok(FileSnapshot { row: self.row, received_bytes });
        }
        let (files, id) = (Arc::clone(&self.files.files), self.row.id);
        let tenant = self.files.store.tenant(self.row.tenant_id);
        let hashed = spawn_blocking(move || files.sha256(id)).await;
        if hashed.map_err(|_| UNUSABLE)?.map_err(refused)? != self.row.sha256 {
            tenant.delete_file(id, None).await?;
            self.files.remove(id).await;
            return Err(ServiceError::Invalid {
                code: "hash_mismatch",
                detail: "what was sent has another SHA-256 than its upload named; send it again"
                    .into(),
            });
        }
        // The file first: a row promises that it is there.
        let files = Arc::clone(&self.files.files);
        let completed = spawn_blocking(move || files.complete(id)).await;
        completed.map_err(|_| UNUSABLE)?.map_err(refused)?;
        let now = self.files.clock.now();
        let audit = self.caller.audit("file.upload", subject(id), &detail(&self.row), now);
        if !tenant.complete_file(id, now, audit).await? {
            return Err(UNKNOWN);
        }
        let row = UploadedFileRecord { completed_at: Some(now), ..self.row.clone() };
        Ok(FileSnapshot { row, received_bytes })
    }

    /// Ends an interrupted request: what has arrived stays.
    ///
    /// # Errors
    /// 503 `no_space`.
    pub async fn keep(mut self) -> Result<()> {
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        let mut receiving = self.receiving.take().ok_or(UNUSABLE)?;
        let bytes = std::mem::take(&mut self.pending);
        let write = move || receiving.write(&bytes).map(|()| receiving);
        let written = spawn_blocking(write).await.map_err(|_| UNUSABLE)?;
        self.receiving = Some(written.map_err(refused)?);
        Ok(())
    }
}
