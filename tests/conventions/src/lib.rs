//! Conventions of the repository that a compiler does not check: documented limits, and the words of
//! the glossary. Reads sources and documentation, and runs nothing but `cargo tree`. A package of its own,
//! which waits for no other one.

#![cfg(test)]

mod agent_columns;
mod audit_actions;
mod doc_paths;
mod glossary;
mod layering;
mod limits;
mod literals;
mod missing_features;
mod modules;
mod readable_texts;
mod records;
mod refusals;
mod security_tests;
mod shared_dependencies;
mod sources;
mod table;
mod type_names;
