//! Opens links to the configured server.

use std::time::Duration;

use futures_util::FutureExt as _;
use uuid::Uuid;

use crate::clock::between;
use crate::config::Config;
use crate::identity::client_certificate::ClientCertificate;
use crate::identity::key::KeyRing;
use crate::link::{
    Authorities, Connector, Exchange, Link, LinkError, PathLimits, WebSocket, clock_difference,
};
use crate::sessions::Upgrade;
use crate::sessions::reconnect::Transport;

/// Longest delay between two attempts to open a WebSocket while HTTP is in use.
const MAX_WEBSOCKET_RETRY: Duration = Duration::from_secs(600);

/// Opens links over either transport.
pub struct Dialer<'a> {
    config: &'a Config,
    authorities: Authorities,
    /// The notice of the server that the connector was created after.
    notice_id: Option<Uuid>,
    /// Created on first use and kept: reading the host's certificates takes time and memory.
    connector: Option<Connector>,
    /// What the connector shows to the server.
    certificate: Option<ClientCertificate>,
    limits: PathLimits,
}

impl<'a> Dialer<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self {
            config,
            authorities: config.authorities.clone(),
            notice_id: None,
            connector: None,
            certificate: None,
            limits: PathLimits::default(),
        }
    }

    pub async fn dial(
        &mut self,
        transport: Transport,
        keys: KeyRing,
        certificate: Option<ClientCertificate>,
    ) -> Result<Box<dyn Link>, LinkError> {
        self.show(certificate);
        let connector = self.connector()?;
        let key = keys.current();
        Ok(match transport {
            Transport::WebSocket => Box::new(WebSocket::open(&connector, key).await?),
            Transport::Http => Box::new(Exchange::open(&connector, key, self.config.poll_wait)?),
        })
    }

    /// Reads the certificate authorities again: they may have been renewed, and an agent that can't
    /// connect can't be notified.
    pub fn reload_authorities(&mut self) {
        self.authorities = self.authorities.reload();
        self.connector = None;
    }

    /// Creates the next connector with the authorities of this notice.
    pub fn follow(&mut self, notice_id: Option<Uuid>) {
        if self.notice_id != notice_id {
            self.notice_id = notice_id;
            self.connector = None;
        }
    }

    /// A sentence about the clocks of host and server, if the link failed because of the time of a certificate.
    pub async fn clock_difference(&self, error: &LinkError) -> Option<String> {
        clock_difference(self.connector.as_ref()?, error).await
    }

    /// Shows this certificate from the next connection on.
    fn show(&mut self, certificate: Option<ClientCertificate>) {
        let is_same = match (&self.certificate, &certificate) {
            (Some(shown), Some(next)) => shown.is_same(next),
            (shown, next) => shown.is_none() && next.is_none(),
        };
        if is_same {
            return;
        }
        match (&mut self.connector, &certificate) {
            (Some(connector), Some(certificate)) => connector.show(certificate),
            (connector, _) => *connector = None,
        }
        self.certificate = certificate;
    }

    fn connector(&mut self) -> Result<Connector, LinkError> {
        if let Some(connector) = &self.connector {
            return Ok(connector.clone());
        }
        let Config { endpoint, proxy, .. } = self.config;
        let mut connector = Connector::new(endpoint.clone(), proxy.clone(), &self.authorities)?;
        connector.limits = self.limits.clone();
        if let Some(certificate) = &self.certificate {
            connector.show(certificate);
        }
        self.connector = Some(connector.clone());
        Ok(connector)
    }

    /// Tries to open a WebSocket, with growing delays, until it succeeds. `None` before the first
    /// link.
    pub fn upgrade(&self, keys: KeyRing) -> Option<Upgrade<'static>> {
        let connector = self.connector.clone()?;
        let mut longest = self.config.websocket_retry;
        let looking = async move {
            loop {
                tokio::time::sleep(between(longest / 2, longest)).await;
                longest = (longest * 2).min(MAX_WEBSOCKET_RETRY);
                match WebSocket::probe(&connector, keys.current()).await {
                    Ok(link) => return Box::new(link) as Box<dyn Link>,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, "the WebSocket still fails");
                    }
                }
            }
        };
        Some(looking.boxed())
    }
}
