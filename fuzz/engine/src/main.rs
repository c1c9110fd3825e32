//! Runs one target with libFuzzer's inputs; `MUSTER_FUZZ_TARGET` selects the target.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use muster_fuzz::Target;

// libFuzzer owns `main` and passes only bytes, so the selection must be stored somewhere.
static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = std::env::var("MUSTER_FUZZ_TARGET").unwrap_or_default();
    muster_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<_> = muster_fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("MUSTER_FUZZ_TARGET must be one of: {}", names.join(" "))
    })
}

fuzz_target!(|bytes: &[u8]| (TARGET.get_or_init(chosen).check)(bytes));
