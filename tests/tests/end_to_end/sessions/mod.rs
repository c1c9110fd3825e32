//! The agents' connections: networks, proxies, TLS, and agents that break the protocol.

mod authority_rollover;
mod bad_networks;
mod certificate_clocks;
mod client_certificates;
mod clocks;
mod connections;
mod documented_nginx;
mod dual_stack;
mod exchange_limits;
mod fallback;
mod hostile_agents;
mod http_rules;
mod proxy;
mod reverse_proxy;
mod socks_proxy;
mod third_party_agent;
mod tls;
