//! As far as the server's port: the name, a connection in each family, the proxy.
//!
//! Names and connections are those of the first hop: the proxy, where there is one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::{Check, Finding};
use super::told;
use crate::link::{LinkError, Obstacle, Proxy, Socket, Way, resolve};

/// For the name.
const NAME_TIMEOUT: Duration = Duration::from_secs(8);
/// For the addresses of one family together; both families are tried at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// For the proxy to answer, connection included.
const PROXY_TIMEOUT: Duration = Duration::from_secs(12);

/// Looks the name up; gives the addresses.
pub async fn dns(way: &Way) -> (Finding, Vec<SocketAddr>) {
    let check = Check::Dns;
    let (host, port) = way.first_hop();
    let whose = whose(way);
    let remedy = match &way.proxy {
        Some(_) => {
            "check the proxy's name in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY and this host's DNS"
        }
        None => "check the server's address and this host's DNS; behind a proxy, set HTTPS_PROXY",
    };
    let looked = timeout(NAME_TIMEOUT, resolve(host, port)).await;
    let addresses = match looked {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            let detail = format!("the name {host} of {whose} has no address: {error}");
            return (Finding::fail(check, detail, remedy), Vec::new());
        }
        Err(_) => {
            let seconds = NAME_TIMEOUT.as_secs();
            let detail = format!("no answer about the name {host} of {whose} in {seconds} s");
            return (Finding::fail(check, detail, remedy), Vec::new());
        }
    };
    if host.parse::<IpAddr>().is_ok() {
        let detail = format!("{host} ({whose}) is an address: there is no name to look up");
        return (Finding::ok(check, detail), addresses);
    }
    let [four, six] = families(&addresses);
    let shown = |addresses: &[SocketAddr], none: &str| match addresses {
        [] => none.to_owned(),
        some => some.iter().map(|one| one.ip().to_string()).collect::<Vec<_>>().join(", "),
    };
    let detail =
        format!("{host} ({whose}): A {}; AAAA {}", shown(&four, "none"), shown(&six, "none"));
    (Finding::ok(check, detail), addresses)
}

/// Connects in each family. One that works is enough.
pub async fn tcp(way: &Way, addresses: &[SocketAddr]) -> Finding {
    let check = Check::Tcp;
    let [four, six] = families(addresses);
    let (four, six) = tokio::join!(connects(&four), connects(&six));
    let (_, port) = way.first_hop();
    let said = |family: &str, tried: &Tried| match tried {
        Tried::Nothing => format!("no {family} address"),
        Tried::Connected => format!("{family} connects"),
        Tried::Failed(why) => format!("{family} fails ({why})"),
    };
    let whose = whose(way);
    let detail = format!("port {port} of {whose}: {}, {}", said("IPv4", &four), said("IPv6", &six));
    let failing = match (&four, &six) {
        (Tried::Connected, Tried::Failed(_)) => "IPv6",
        (Tried::Failed(_), Tried::Connected) => "IPv4",
        (Tried::Connected, _) | (_, Tried::Connected) => return Finding::ok(check, detail),
        _ => {
            let remedy = match &way.proxy {
                Some(_) => "check the proxy's address and port, or exempt the server in NO_PROXY",
                None => {
                    "check address and port, that the server runs, and that firewalls let this host out to it"
                }
            };
            return Finding::fail(check, detail, remedy);
        }
    };
    let remedy = format!("the other family is used; mend {failing} or take its addresses from DNS");
    Finding::warn(check, detail, remedy)
}

/// Goes as far as the server's port; gives the connection. A proxy that forbids tunnels still
/// passes polling in the clear, if `may_poll`.
pub async fn proxy(way: &Way, may_poll: bool) -> (Finding, Option<Box<dyn Socket>>) {
    let check = Check::Proxy;
    let reached = timeout(PROXY_TIMEOUT, way.reach());
    let reached = reached.await.unwrap_or(Err(LinkError::TimedOut("connecting")));
    let target = way.endpoint.authority();
    match (reached, &way.proxy) {
        (Ok(socket), None) => {
            (Finding::ok(check, format!("none is used for {target}")), Some(socket))
        }
        (Ok(socket), Some(proxy)) => {
            let finding = if way.endpoint.is_local() {
                local(proxy, &target)
            } else {
                Finding::ok(check, format!("{proxy} connects to {target}"))
            };
            (finding, Some(socket))
        }
        (Err(error), _) => {
            let (detail, remedy) = told(&error);
            let is_forbidden = matches!(error, LinkError::Blocked(Obstacle::ProxyForbids { .. }));
            if is_forbidden && may_poll && !way.endpoint.is_secure {
                return (Finding::warn(check, detail, remedy), None);
            }
            (Finding::fail(check, detail, remedy), None)
        }
    }
}

/// It works, but few people mean it.
fn local(proxy: &Proxy, target: &str) -> Finding {
    Finding::warn(
        Check::Proxy,
        format!("{proxy} connects to {target}, which it takes for its own host"),
        "if the server is on this host, set NO_PROXY=localhost,127.0.0.1,::1",
    )
}

enum Tried {
    Nothing,
    Connected,
    Failed(String),
}

async fn connects(addresses: &[SocketAddr]) -> Tried {
    if addresses.is_empty() {
        return Tried::Nothing;
    }
    let each = async {
        let mut why = String::new();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(_) => return Tried::Connected,
                Err(error) => why = error.to_string(),
            }
        }
        Tried::Failed(why)
    };
    let silent = || Tried::Failed(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()));
    timeout(CONNECT_TIMEOUT, each).await.unwrap_or_else(|_| silent())
}

fn families(addresses: &[SocketAddr]) -> [Vec<SocketAddr>; 2] {
    let (four, six) = addresses.iter().partition(|address| address.is_ipv4());
    [four, six]
}

fn whose(way: &Way) -> &'static str {
    if way.proxy.is_some() { "the proxy" } else { "the server" }
}
