//! The descriptions of API and agent protocol, read by other projects' validators and generators.

mod bounds;
mod clients;
mod documents;
mod example_checks;
mod examples;
mod sign_on_examples;
mod stream_examples;
mod texts;
