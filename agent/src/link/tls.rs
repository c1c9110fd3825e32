//! Trust: the host's own certificate store, through rustls and ring.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio_rustls::TlsConnector;

use super::LinkError;

/// What is needed to open encrypted links, made once and only when there is need.
#[derive(Clone)]
pub struct TlsSetup(Arc<ClientConfig>);

impl TlsSetup {
    /// # Errors
    /// [`LinkError::Broken`] if the host has no usable certificate store.
    pub fn new() -> Result<Self, LinkError> {
        let config =
            ClientConfig::with_platform_verifier().map_err(LinkError::broken("set up TLS"))?;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0))
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        (*self.0).clone()
    }
}
