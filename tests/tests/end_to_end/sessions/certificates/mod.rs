//! TLS: the authority of the server, certificates of agents, and clocks that differ.

mod authority_rollover;
mod clients;
mod clocks;
mod tls;
