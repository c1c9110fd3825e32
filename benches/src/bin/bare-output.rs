//! A child that prints: so many bytes of noise, as its one argument says.

use anyhow::Context as _;
use muster_benches::load::pattern;

fn main() -> anyhow::Result<()> {
    let bytes = std::env::args().nth(1).context("say how many bytes")?.parse()?;
    Ok(pattern::write(std::io::stdout().lock(), bytes)?)
}
