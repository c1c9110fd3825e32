//! The agents' connections: networks, proxies, TLS, and agents that break the protocol.

mod bad_networks;
mod certificates;
mod clocks;
mod connections;
mod dual_stack;
mod exchange_limits;
mod fallback;
mod hostile_agents;
mod http_rules;
mod proxies;
mod third_party_agent;
