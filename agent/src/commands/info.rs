//! `info`: which host this is.

use serde_json::{Value, json};

use super::Surroundings;

pub fn answer(around: &Surroundings<'_>) -> Value {
    let about = around.about;
    json!({
        "agent_id": around.agent_id,
        "hostname": about.hostname,
        "ip": about.ip,
        "os": about.os,
        "arch": about.arch,
        "version": about.version,
        "protocol": about.protocol,
        "agent_uptime_seconds": around.running_for.as_secs(),
        "uptime_seconds": sysinfo::System::uptime().ok(),
    })
}
