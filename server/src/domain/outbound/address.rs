//! Which addresses requests may be sent to. The server must not reach addresses for a caller who
//! could not reach them directly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::OutboundReach;

/// The kind of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Somewhere on the internet.
    Public,
    /// This machine, or one of the operator's own networks.
    Private,
    /// Never a receiver: cloud metadata, broadcast, documentation and reserved
    /// addresses.
    Unusable,
}

impl AddressKind {
    /// True if a webhook may be sent to it.
    pub const fn is_within(self, reach: OutboundReach) -> bool {
        matches!((self, reach), (Self::Public, _) | (Self::Private, OutboundReach::Private))
    }
}

/// Metadata services inside private ranges: Alibaba Cloud, and the fabric address of Azure, which is
/// public. Others are link-local.
const METADATA_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// The same: AWS and Google Cloud.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Classifies an address. An IPv6 address that contains an IPv4 address is classified as that
/// one.
pub fn kind(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> AddressKind {
    if METADATA_V4.contains(&address) {
        return AddressKind::Unusable;
    }
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        // Loopback; RFC 1918; carrier-grade NAT (RFC 6598).
        (127 | 10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => {
            AddressKind::Private
        }
        // "This network"; link-local, where clouds keep their metadata; multicast and reserved.
        (0 | 224.., ..) | (169, 254, _) => AddressKind::Unusable,
        // IETF protocol assignments; documentation; 6to4 relays; AMT; benchmarks.
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => AddressKind::Unusable,
        (192, 52, 193) | (192, 175, 48) | (192, 31, 196) | (198, 18..=19, _) => {
            AddressKind::Unusable
        }
        _ => AddressKind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> AddressKind {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return kind_of_v4(mapped);
    }
    if METADATA_V6.contains(&address) {
        return AddressKind::Unusable;
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    match (a, b) {
        (0, 0) if address == Ipv6Addr::LOCALHOST => AddressKind::Private,
        // NAT64 (RFC 6052): an IPv6-only network reaches all of IPv4 through this prefix.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => {
            let ([g0, g1], [h0, h1]) = (g.to_be_bytes(), h.to_be_bytes());
            kind_of_v4(Ipv4Addr::new(g0, g1, h0, h1))
        }
        // Unique local (RFC 4193).
        (0xfc00..=0xfdff, _) => AddressKind::Private,
        // Protocol assignments, Teredo and benchmarks among them; documentation; 6to4.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x2002, _) => AddressKind::Unusable,
        (0x3fff, 0..=0xfff) => AddressKind::Unusable,
        // All public addresses (RFC 4291). The rest is link-local, site-local, multicast,
        // unspecified or unassigned.
        (0x2000..=0x3fff, _) => AddressKind::Public,
        _ => AddressKind::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> AddressKind {
        kind(text.parse().expect("an address"))
    }

    #[test]
    fn special_address_ranges_are_not_public() {
        for private in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fc00::1",
            "fdff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert_eq!(of(private), AddressKind::Private, "{private}");
        }
        for unusable in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.0.170",
            "192.88.99.1",
            "::",
            "::2",
            "::127.0.0.1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "2001::1",
            "2001:2::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "64:ff9b:0:1::10.0.0.1",
            "100::1",
            "5f00::1",
            "4000::1",
            "::ffff:169.254.169.254",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "64:ff9b::100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert_eq!(of(unusable), AddressKind::Unusable, "{unusable}");
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860::8888",
            "64:ff9b::1.1.1.1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(of(public), AddressKind::Public, "{public}");
        }
    }

    #[test]
    fn cloud_metadata_is_refused_even_if_private_networks_are_allowed() {
        assert!(
            of("10.0.0.1").is_within(OutboundReach::Private)
                && !of("10.0.0.1").is_within(OutboundReach::Public)
        );
        for metadata in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"] {
            assert!(!of(metadata).is_within(OutboundReach::Private), "{metadata}");
        }
        assert!(of("1.1.1.1").is_within(OutboundReach::Public));
    }

    proptest! {
        #[test]
        fn an_ipv4_address_inside_ipv6_has_the_class_of_the_ipv4_address(bits in any::<u32>()) {
            let inner = Ipv4Addr::from(bits);
            let plain = kind(inner.into());
            let mapped = IpAddr::from(inner.to_ipv6_mapped());
            prop_assert_eq!(kind(mapped), plain);
            let [a, b, c, d] = inner.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            prop_assert_eq!(kind(nat64.into()), plain);
            let six_to_four = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
            prop_assert_eq!(kind(six_to_four.into()), AddressKind::Unusable);
            let compatible = Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low);
            prop_assert_ne!(kind(compatible.into()), AddressKind::Public);
        }

        /// The standard library's own classification, where it has a stable one.
        #[test]
        fn addresses_that_the_standard_library_calls_special_are_never_public(bits in any::<u32>(), wide in any::<u128>()) {
            let v4 = Ipv4Addr::from(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified()
            {
                prop_assert_ne!(kind(v4.into()), AddressKind::Public);
            }
            let v6 = Ipv6Addr::from(wide);
            if v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || v6.is_unique_local()
                || v6.is_unicast_link_local()
            {
                prop_assert_ne!(kind(v6.into()), AddressKind::Public);
            }
        }

        #[test]
        fn no_address_in_a_special_prefix_is_public(tail in any::<u128>(), which in 0usize..9) {
            let (prefix, length): (u128, u32) = [
                (0xfe80 << 112, 10), (0xfc00 << 112, 7), (0xff00 << 112, 8), (0x2002 << 112, 16),
                (0x2001_0db8 << 96, 32), (0x2001 << 112, 23), (0, 8), (0x4000 << 112, 2),
                (0x3fff << 112, 20),
            ][which];
            // NAT64 and mapped addresses are in the zero block, and are classified by their IPv4
            // address.
            let address = Ipv6Addr::from(prefix | tail >> length);
            let is_dressed = matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..])
                || address.to_ipv4_mapped().is_some();
            prop_assert!(is_dressed || kind(address.into()) != AddressKind::Public, "{}", address);
        }
    }
}
