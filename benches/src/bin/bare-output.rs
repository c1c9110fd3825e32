//! A child that prints noise; its argument is the number of bytes.

use anyhow::Context as _;
use muster_benches::load::pattern;

fn main() -> anyhow::Result<()> {
    let bytes = std::env::args().nth(1).context("say how many bytes")?.parse()?;
    Ok(pattern::write(std::io::stdout().lock(), bytes)?)
}
