//! The link for networks that let no WebSocket through: frames in the bodies of HTTP requests.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::endpoint::Endpoint;
use super::{Incoming, Link, LinkError, Outgoing, TlsSetup};

pub struct Exchange;

impl Exchange {
    pub fn open(
        _endpoint: &Endpoint,
        _key: &SecretString,
        _tls: Option<&TlsSetup>,
        _wait: Duration,
    ) -> Result<Self, LinkError> {
        Err(LinkError::Ended)
    }
}

impl Link for Exchange {
    fn name(&self) -> &'static str {
        "http"
    }
    fn send(&mut self, _frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>> {
        async { Err(LinkError::Ended) }.boxed()
    }
    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>> {
        async { Err(LinkError::Ended) }.boxed()
    }
    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
