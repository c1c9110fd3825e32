//! The address of a client behind proxies, and which addresses count as one source.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The part of an address that one client controls: an IPv4 address, or the first 64 bits of an IPv6
/// address, because everyone with IPv6 has that many addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientSource(IpAddr);

/// The addresses of proxies whose word on the address of a client counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The text is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl ClientSource {
    /// The source of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() & (u128::MAX << 64);
                Self(Ipv6Addr::from_bits(prefix).into())
            }
            address => Self(address),
        }
    }
}

impl TrustedProxies {
    /// Reads addresses and networks.
    ///
    /// # Errors
    /// [`InvalidNetwork`] repeats the first that is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, InvalidNetwork> {
        let network = |text: &str| {
            let network = IpNet::from_str(text).ok();
            let network = network.or_else(|| IpAddr::from_str(text).ok().map(IpNet::from));
            network.ok_or_else(|| InvalidNetwork(text.chars().take(64).collect()))
        };
        let texts = texts.iter().map(|text| text.as_ref().trim()).filter(|text| !text.is_empty());
        Ok(Self(texts.map(network).collect::<Result<_, _>>()?))
    }

    /// True for the address of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of a client whose connection comes from `peer`. `forwarded_for`: the values of
    /// `X-Forwarded-For`, in order.
    ///
    /// Each proxy appends the address that it saw, so only what trusted proxies appended is read: from
    /// the end, up to the first address that is not a trusted proxy itself.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded_for.rev().flat_map(|value| value.rsplit(',')) {
            if !self.contains(client) {
                break;
            }
            let Ok(address) = IpAddr::from_str(entry.trim()) else { break };
            client = address.to_canonical();
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_an_ipv4_address_is_one() {
        let source = |text| ClientSource::of(address(text));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn only_trusted_proxies_say_where_a_client_is() {
        let trusted = TrustedProxies::parse(&["10.0.0.0/8", "::1", " "]).expect("networks");
        let client = |peer: &str, header: &[&str]| {
            trusted.client(address(peer), header.iter().copied()).to_string()
        };
        assert_eq!(client("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        // Proxies append their entries after those that the client wrote itself.
        assert_eq!(client("10.0.0.1", &["127.0.0.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["127.0.0.1", "198.51.100.1"]), "198.51.100.1");
        for missing in [&[][..], &["unknown"], &[""]] {
            assert_eq!(client("10.0.0.1", missing), "10.0.0.1");
        }
        assert_eq!(
            TrustedProxies::default().client(address("::1"), ["192.0.2.1"].into_iter()),
            address("::1")
        );
        assert!(TrustedProxies::parse(&["10.0.0.0/33"]).is_err());
    }
}
