//! No code: a development dependency of every package, so that the tests of each selection of packages
//! compile their dependencies with the same features. `cargo hakari generate` writes its Cargo.toml.
//! Programs do not depend on it.
