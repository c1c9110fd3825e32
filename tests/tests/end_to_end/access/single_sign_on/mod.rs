//! Single sign-on with OpenID Connect.

mod identities;
mod real_provider;
mod sign_in;
