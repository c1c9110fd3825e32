//! The agent beside the server, if it is wanted.

use anyhow::Context as _;

use crate::adapters::local_agent::{LocalAgent, LocalAgentFiles, LocalConnection};
use crate::config::{Config, TlsConfig};
use crate::services::Services;

/// Its state directory, in the data directory.
const FOLDER: &str = "local_agent";

/// Finds its programs and makes its state directory and its key, before the server accepts connections.
pub(super) async fn prepare(
    config: &Config,
    services: &Services,
) -> anyhow::Result<Option<LocalAgentFiles>> {
    if !config.local_agent {
        return Ok(None);
    }
    let programs = config.local_agent_programs.as_deref();
    let files = LocalAgentFiles::prepare(config.data_dir.join(FOLDER), programs)?;
    let made = services.agent_keys.make_local_key(&files.key_file()).await;
    made.context("failed to make the key of the local agent")?;
    Ok(Some(files))
}

/// Starts it. `own_url` is the address that the server listens on.
pub(super) fn start(
    config: &Config,
    files: Option<LocalAgentFiles>,
    own_url: &str,
) -> anyhow::Result<Option<LocalAgent>> {
    let Some(files) = files else { return Ok(None) };
    let own_url = reachable(own_url);
    let (url, ca_file) = match &config.tls {
        TlsConfig::Off => (own_url, None),
        // The certificate is always valid for the loopback address.
        TlsConfig::Auto(_) => {
            let file = std::path::absolute(config.data_dir.join("ca.pem"));
            (own_url, Some(file.context("failed to find the data directory")?))
        }
        // Its names are those of the operator.
        TlsConfig::Files(_) => {
            (config.public_url.as_ref().map_or(own_url, ToString::to_string), None)
        }
    };
    let log_format = config.log_format.as_str();
    let connection = LocalConnection { url, ca_file, log_format };
    Ok(Some(LocalAgent::start(files, connection)?))
}

/// Without an address of its own, a server listens on the loopback address too.
fn reachable(url: &str) -> String {
    url.replacen("://0.0.0.0:", "://127.0.0.1:", 1).replacen("://[::]:", "://[::1]:", 1)
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_server_on_all_addresses_is_reached_over_the_loopback_address() {
        assert_eq!(reachable("http://0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(reachable("https://[::]:8080"), "https://[::1]:8080");
        assert_eq!(reachable("http://10.0.0.5:80"), "http://10.0.0.5:80");
    }
}
