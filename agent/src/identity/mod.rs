//! The agent's identity, and the machine that it was issued on.

pub mod client_certificate;
pub mod instance_lock;
pub mod key;
pub mod key_pair;
pub mod service_manager;

use data_encoding::HEXLOWER;
use muster_protocol::PROTOCOL_VERSION;
use ring::digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::platform::{self, BootInstant};
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// After a longer pause between two rejections the agent was not trying in between.
const LONGEST_PAUSE_MS: u64 = 30 * 60_000;

/// The content of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Issued in `registered`; absent before enrolment.
    pub agent_id: Option<Uuid>,
    /// Issued with the id: shows a restored server that the id is this agent's.
    #[serde(default)]
    pub ticket: Option<String>,
    /// Hex SHA-256 that identifies the machine; never the raw machine id.
    pub machine_id: String,
    /// How long servers have rejected the key, if they do.
    #[serde(default)]
    pub key_rejected: Option<KeyRejected>,
}

/// How long servers have answered that they do not know the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRejected {
    /// Hex SHA-256 of the key: the count restarts for another key.
    pub key_sha256: String,
    /// Only counts time in which the key was tried, so that a host that was off loses nothing.
    pub for_ms: u64,
    pub last_refused: BootInstant,
}

impl KeyRejected {
    /// Adds one rejection. Uses no wall clock, and survives restarts of the agent.
    pub fn repeated(before: Option<Self>, key_sha256: String) -> Self {
        let now = BootInstant::after_ms(0);
        let for_ms = before.filter(|before| before.key_sha256 == key_sha256).map_or(0, |before| {
            let is_same_boot = before.last_refused.boot_id == now.boot_id;
            let pause = now.at_ms.saturating_sub(before.last_refused.at_ms);
            before.for_ms + if is_same_boot { pause.min(LONGEST_PAUSE_MS) } else { 0 }
        });
        Self { key_sha256, for_ms, last_refused: now }
    }
}

/// An identity, and whether it was issued on another machine.
#[derive(Debug)]
pub struct LoadedIdentity {
    pub identity: Identity,
    /// The state directory was copied or moved from another machine.
    pub is_other_machine: bool,
    /// The state directory already contains exactly this identity.
    pub is_stored: bool,
}

#[derive(Serialize, Deserialize)]
struct MachineSeed {
    seed: Uuid,
}

impl Identity {
    /// Reads the identity. After a first start and on another machine it has no agent id.
    ///
    /// # Errors
    /// [`StorageError`] if a file is damaged or can't be read or written.
    pub fn load(state: &StateDir) -> Result<LoadedIdentity, StorageError> {
        let machine_id = machine_id(state)?;
        let stored: Option<Self> = storage::read_sealed(&state.identity())?;
        Ok(match stored {
            Some(identity) if identity.machine_id == machine_id => {
                LoadedIdentity { identity, is_other_machine: false, is_stored: true }
            }
            stored => LoadedIdentity {
                identity: Self { agent_id: None, ticket: None, machine_id, key_rejected: None },
                is_other_machine: stored.is_some(),
                is_stored: false,
            },
        })
    }

    /// Makes the identity durable.
    ///
    /// # Errors
    /// The system's error.
    pub fn save(&self, state: &StateDir) -> Result<(), StorageError> {
        storage::replace_synced(&state.identity(), &storage::seal(self))
    }
}

fn machine_id(state: &StateDir) -> Result<String, StorageError> {
    let text = match platform::machine_id_text() {
        Some(text) => text,
        None => machine_seed(state)?.hyphenated().to_string(),
    };
    let hash = digest::digest(&digest::SHA256, format!("muster{text}").as_bytes());
    Ok(HEXLOWER.encode(hash.as_ref()))
}

fn machine_seed(state: &StateDir) -> Result<Uuid, StorageError> {
    if let Some(MachineSeed { seed }) = storage::read_sealed(&state.machine_seed())? {
        return Ok(seed);
    }
    let seed = Uuid::new_v4();
    storage::replace_synced(&state.machine_seed(), &storage::seal(&MachineSeed { seed }))?;
    Ok(seed)
}

/// The facts that this agent reports in addition to its ids.
#[derive(Debug, Clone)]
pub struct HostInfo {
    pub hostname: String,
    pub ip: String,
    /// Such as `Linux 6.1.0`.
    pub os: String,
    pub arch: &'static str,
    pub version: &'static str,
    pub protocol: u32,
    /// What starts the agent; `None` if it is not known.
    pub service_manager: Option<String>,
}

impl HostInfo {
    /// Reads the facts from the host.
    pub fn this_host() -> Self {
        let name = if cfg!(target_os = "linux") { "Linux" } else { std::env::consts::OS };
        let os = match sysinfo::System::kernel_version() {
            Ok(version) => format!("{name} {version}"),
            Err(_) => name.to_owned(),
        };
        Self {
            hostname: platform::hostname(),
            ip: outbound_ip(),
            os,
            arch: std::env::consts::ARCH,
            version: muster_protocol::program::version::own(),
            protocol: PROTOCOL_VERSION,
            service_manager: service_manager::of_this_host(),
        }
    }
}

/// The source address of outgoing packets. Connecting a datagram socket sends nothing.
fn outbound_ip() -> String {
    std::net::UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        })
        .map_or_else(|_| "127.0.0.1".into(), |address| address.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_rejected_key_adds_up_over_restarts_but_not_while_the_host_is_off() {
        let refused = |boot_id: &str, minutes_ago: u64| {
            let mut last_refused = BootInstant::after_ms(0);
            last_refused.at_ms = last_refused.at_ms.saturating_sub(minutes_ago * 60_000);
            if !boot_id.is_empty() {
                last_refused.boot_id = boot_id.into();
            }
            Some(KeyRejected { key_sha256: "a".into(), for_ms: 1_000_000, last_refused })
        };
        let minutes =
            |before, key: &str| (KeyRejected::repeated(before, key.into()).for_ms) / 60_000;
        assert_eq!(minutes(None, "a"), 0);
        assert_eq!(minutes(refused("", 1), "b"), 0, "another key");
        assert_eq!(minutes(refused("another", 1), "a"), 16, "another boot adds nothing");
        assert_eq!(minutes(refused("", 0), "a"), 16);
        // A host that has just booted has only a short past.
        let past = platform::boot_now_ms() / 60_000;
        assert_eq!(minutes(refused("", past.min(15)), "a"), 16 + past.min(15));
        assert!(minutes(refused("", past), "a") <= 16 + 30 + 1, "it was not trying all the time");
    }

    #[test]
    fn an_identity_without_the_newer_fields_is_read() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let machine_id = Identity::load(&state).expect("first start").identity.machine_id;
        let first = serde_json::json!({"agent_id": Uuid::from_u128(7), "machine_id": machine_id});
        storage::replace_synced(&state.identity(), &storage::seal(&first)).expect("saved");
        let loaded = Identity::load(&state).expect("read");
        assert_eq!(loaded.identity.agent_id, Some(Uuid::from_u128(7)));
        assert_eq!(loaded.identity.key_rejected, None);
    }

    #[test]
    fn an_identity_of_another_machine_is_not_presented() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut identity = Identity::load(&state).expect("first start").identity;
        identity.agent_id = Some(Uuid::from_u128(7));
        identity.save(&state).expect("saved");
        let again = Identity::load(&state).expect("second start");
        assert_eq!(again.identity, identity);
        assert!(!again.is_other_machine);

        identity.machine_id = "f".repeat(64);
        identity.save(&state).expect("saved");
        let moved = Identity::load(&state).expect("start elsewhere");
        assert!(moved.is_other_machine);
        assert_eq!(moved.identity.agent_id, None);
    }
}
