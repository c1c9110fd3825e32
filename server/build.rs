//! Prepares the folder of the built dashboard, which the server embeds. `make web` fills it; without it,
//! and so without Node, the server builds too and says at its address how to build the dashboard.

use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/dist");
    // Cargo runs this script at every build while a path that it watches is missing. Where the sources
    // can't be written to, that costs a moment and nothing else.
    if let Err(error) = std::fs::create_dir_all(&folder) {
        println!("cargo::warning=failed to create {}: {error}", folder.display());
    }
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
}
