//! Conventions of the repository that a compiler does not check: documented limits, and the words of
//! the glossary. Reads sources and documentation, and runs nothing.

mod glossary;
mod layering;
mod limits;

mod modules;
mod records;

mod sources;
mod table;
