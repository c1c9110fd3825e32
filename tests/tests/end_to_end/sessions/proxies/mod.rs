//! Proxies on the way: of companies, by SOCKS, and in front of the server.

mod documented_nginx;
mod http;
mod reverse;
mod socks;
