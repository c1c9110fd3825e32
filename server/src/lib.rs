//! The Muster server.
//!
//! Data goes one way: an edge ([`http`], [`ws`]) or a worker ([`workers`]) calls a service
//! ([`services`]), which decides by pure rules ([`domain`]), commits through the [`store`] and wakes
//! connected agents through the [`hub`]. The [`listener`] carries the edges' connections. All of them
//! count what they do in [`metrics`]. Only [`boot`] uses all layers.

pub mod adapters;
pub mod boot;
pub mod config;
pub mod domain;
pub mod fault;
pub mod http;
pub mod hub;
pub mod listener;
pub mod metrics;
pub mod services;
pub mod store;
pub mod workers;
pub mod ws;
