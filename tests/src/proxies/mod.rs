//! Proxies and links between agents and servers.

pub mod link;
pub mod nginx;
pub mod socks_proxy;
pub mod tinyproxy;
pub mod tls_terminator;
