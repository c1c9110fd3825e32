//! `update` and `redeploy`: end so that the supervisor puts another release in place, or this one
//! afresh. What came of it is the supervisor's to say.

use muster_protocol::release::Version;
use muster_protocol::version;
use serde::Deserialize;
use serde_json::Value;

/// Fields that are not known are for later agents, and ignored.
#[derive(Deserialize)]
struct Request {
    version: Version,
}

/// The version that an `update` asks for; or a sentence on what is wrong with it.
pub fn requested_version(data: &Value) -> Result<Version, String> {
    let request = Request::deserialize(data).map_err(|error| {
        format!("the data of `update` does not fit: {error}; send `version`, such as 0.2.0")
    })?;
    Ok(request.version)
}

/// The version that a `redeploy` asks for: the one that runs.
pub fn own_version() -> Result<Version, String> {
    version::own().parse().map_err(|_| "this agent does not know its own version".to_owned())
}
