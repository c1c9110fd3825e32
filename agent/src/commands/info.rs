//! `info`: describes the host.

use serde_json::{Value, json};

use super::CommandContext;

pub fn answer(context: &CommandContext<'_>) -> Value {
    let host_info = context.host_info;
    json!({
        "agent_id": context.agent_id,
        "hostname": host_info.hostname,
        "ip": host_info.ip,
        "os": host_info.os,
        "arch": host_info.arch,
        "version": host_info.version,
        "protocol": host_info.protocol,
        "agent_uptime_seconds": context.running_for.as_secs(),
        "uptime_seconds": sysinfo::System::uptime().ok(),
    })
}
