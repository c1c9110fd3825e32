//! The link over HTTP, with a server that answers by hand.

use muster_agent::link::endpoint::Endpoint;
use muster_agent::link::{Connector, Exchange, Incoming, Link as _, Outgoing};
use muster_protocol::frame::exchange::{ExchangePart, ExchangeRequest};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};

use crate::process::{accept, listen, read_request, write_response};
use crate::support::PATIENCE;

/// Parts of every answer to a request that carries frames: more than any buffer on the way holds.
const ANSWERED: usize = 200;

/// Answers what carries frames with many, and holds what does not until the next comes.
async fn answer_generously(listener: TcpListener) {
    let mut held: Option<(BufReader<TcpStream>, ExchangeRequest)> = None;
    loop {
        let (head, mut stream) = accept(&listener).await;
        let request = read_request(&mut stream, &head).await;
        if let Some((mut stream, request)) = held.take() {
            write_response(&mut stream, request.sequence, vec![]).await;
        }
        if request.parts.is_empty() && request.sequence > 0 {
            held = Some((stream, request));
            continue;
        }
        let part = || ExchangePart::Text("answer".into());
        let count = if request.parts.is_empty() { 0 } else { ANSWERED };
        write_response(&mut stream, request.sequence, (0..count).map(|_| part()).collect()).await;
    }
}

#[tokio::test]
async fn sending_continues_even_if_the_answers_are_not_read() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (listener, url) = listen().await;
    let server = tokio::spawn(answer_generously(listener));
    let endpoint = Endpoint::parse(&url, false).expect("loopback");
    let key = "mst_agent_test".to_owned().into();
    let connector = Connector::new(endpoint, None, &Default::default()).expect("no TLS is needed");
    let mut link = Exchange::open(&connector, &key, PATIENCE).expect("a client");
    let talking = async {
        for _ in 0..100 {
            link.send(Outgoing::Text("frame".into())).await.expect("taken");
        }
        for _ in 0..ANSWERED {
            assert_eq!(link.receive().await.expect("open"), Incoming::Text("answer".into()));
        }
    };
    tokio::time::timeout(PATIENCE, talking).await.expect("nothing waits for the other");
    server.abort();
}
