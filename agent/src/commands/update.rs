//! `update` and `redeploy`: exit so that the supervisor installs another release, or this one
//! again. The supervisor reports the result.

use muster_protocol::release::Version;
use muster_protocol::version;
use serde::Deserialize;
use serde_json::Value;

/// Unknown fields are ignored: they are for later agents.
#[derive(Deserialize)]
struct Request {
    version: Version,
}

/// The version that an `update` requests, or a sentence that explains what is wrong with it.
pub fn requested_version(data: &Value) -> Result<Version, String> {
    let request = Request::deserialize(data).map_err(|error| {
        format!("the data of `update` is invalid: {error}; send `version`, such as 0.2.0")
    })?;
    Ok(request.version)
}

/// The version that a `redeploy` requests: the running one.
pub fn own_version() -> Result<Version, String> {
    version::own().parse().map_err(|_| "this agent does not know its own version".to_owned())
}
