//! Single sign-on with providers of OpenID Connect: discovery, exchange of codes, checks of tokens.

pub mod client;
pub mod token;
