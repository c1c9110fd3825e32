//! `X-Forwarded-For`: only what trusted proxies appended says where a client is.

use std::net::{IpAddr, Ipv4Addr};

use muster_server::domain::source::{ClientSource, TrustedProxies};

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let trusted = TrustedProxies::parse(&["10.0.0.0/8", "fd00::/8"]).expect("networks");
    let values: Vec<&str> = text.split('\n').collect();
    let client = |peer: IpAddr, values: &[&str]| trusted.client(peer, values.iter().copied());
    let (proxy, stranger) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(client(stranger.into(), &values), IpAddr::V4(stranger));
    let found = client(proxy.into(), &values);
    assert_eq!(ClientSource::of(found), ClientSource::of(found.to_canonical()));
    // What a client writes itself is in front of what the proxy appends, and changes nothing.
    let appended = format!("{text}, {stranger}");
    let appended: Vec<&str> = appended.split('\n').collect();
    assert_eq!(client(proxy.into(), &appended), IpAddr::V4(stranger));
    if let Err(refusal) = TrustedProxies::parse(&values) {
        super::check_refusal(&refusal);
    }
}
