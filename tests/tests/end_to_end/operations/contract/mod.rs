//! The descriptions of API and agent protocol, read by other projects' validators and generators.

mod bounds;
mod clients;
mod documents;
mod examples;
mod texts;
