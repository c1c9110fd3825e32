//! Ledger records, as found after a crash or written by another version: either damaged, or
//! complete and round-tripping; never partial.

use std::fmt::Debug;
use std::path::Path;

use muster_agent::executions::ledger::Head;
use muster_agent::executions::ledger::record::{
    CancelRecord, CommandRecord, HolderRecord, ParameterRecord, Settlement, StartedRecord,
};
use muster_agent::storage::{self, StorageError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// The first byte selects the record type; the second, where a sealed record is truncated.
pub fn check(mut bytes: &[u8]) {
    let kind = super::take_byte(&mut bytes);
    let cut = super::take_byte(&mut bytes);
    match kind % 7 {
        0 => check_as::<CommandRecord>(bytes, cut),
        1 => check_as::<StartedRecord>(bytes, cut),
        2 => check_as::<HolderRecord>(bytes, cut),
        3 => check_as::<CancelRecord>(bytes, cut),
        4 => check_as::<Head>(bytes, cut),
        5 => check_as::<ParameterRecord>(bytes, cut),
        _ => {
            check_as::<Settlement>(bytes, cut);
            check_response(bytes);
        }
    }
}

fn check_as<Record: Debug + Serialize + DeserializeOwned>(json: &[u8], cut: usize) {
    let path = Path::new("record");
    // Unsealed bytes on disk are never accepted as a record.
    if let Ok(record) = storage::unseal::<Record>(json, path) {
        check_again(&record, cut);
    }
    // Sealed by a version that writes other fields.
    let line: Vec<u8> = json.iter().copied().filter(|byte| *byte != b'\n').collect();
    match storage::unseal::<Record>(&sealed(&line), path) {
        Ok(record) => check_again(&record, cut),
        Err(StorageError::Version { version, .. }) => assert!(version > storage::FORMAT_VERSION),
        Err(StorageError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A record round-trips, and no truncation of it is accepted.
fn check_again<Record: Debug + Serialize + DeserializeOwned>(record: &Record, cut: usize) {
    let path = Path::new("record");
    let bytes = storage::seal(record);
    let again: Record = storage::unseal(&bytes, path).expect("just sealed");
    assert_eq!(storage::seal(&again), bytes, "{record:?}");
    let kept = bytes.len().saturating_sub(2 + cut);
    assert!(
        storage::unseal::<Record>(&bytes[..kept], path).is_err(),
        "a truncated record was accepted"
    );
}

/// The response of a settled command can be sent, and round-trips.
fn check_response(json: &[u8]) {
    let Ok(settlement) = serde_json::from_slice::<Settlement>(json) else { return };
    let response = settlement.response(Uuid::from_u128(1));
    let text = serde_json::to_string(&response).expect("plain data");
    let read: muster_protocol::frame::Response = serde_json::from_str(&text).expect("just written");
    assert_eq!(read, response);
}

fn sealed(line: &[u8]) -> Vec<u8> {
    let mut bytes = line.to_vec();
    bytes.push(b'\n');
    bytes.extend_from_slice(storage::seal_of(line).as_bytes());
    bytes.push(b'\n');
    bytes
}
