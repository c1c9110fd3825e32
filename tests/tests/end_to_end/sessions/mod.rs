//! The agents' connections: networks, proxies, TLS, and agents that break the protocol.

mod clocks;
mod connections;
mod documented_nginx;
mod dual_stack;
mod fallback;
mod hostile_agents;
mod proxy;
mod reverse_proxy;
mod third_party_agent;
mod tls;
