//! `muster release`: a version of agent and supervisor, from its programs to the hosts.
//!
//! What needs the private key needs no server, and the other way round: the key never leaves the
//! machine that it lies on.

mod key_file;
mod package;
mod publishing;

use std::path::PathBuf;

use clap::Subcommand;
use muster_protocol::release::{KeyChange, Platform, Version};
use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use super::listing::{self, Limit};
use crate::error::CliError;
use crate::output::Output;
use crate::table::Column;

const COLUMNS: [Column; 6] = [
    Column::of("VERSION", "version"),
    Column::of("STATE", "state"),
    Column::of("PLATFORMS", "platforms"),
    Column::of("FLOOR", "floor"),
    Column::of("PUBLISHED", "published_at"),
    Column::of("KEY", "key_fingerprint"),
];

/// Without an action: all releases.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key that signs releases, and print its fingerprint. Needs no server.
    Keygen {
        /// Where the private key goes; nothing may be there.
        file: PathBuf,
    },
    /// Put programs together into the folder of a release. Needs no server.
    Build {
        /// Where the release goes; no release may be there.
        folder: PathBuf,
        /// A platform and the folder with its muster-agent and muster-supervisor; repeatable.
        #[arg(long = "program", value_name = "PLATFORM=DIR", required = true, value_parser = platform)]
        programs: Vec<(Platform, PathBuf)>,
        /// A host that has run this release takes none below this version any more.
        #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
        floor: Version,
    },
    /// Sign a release's folder. Needs no server.
    Sign {
        folder: PathBuf,
        /// The private key, as `keygen` has made it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Upload a signed release and let hosts have it. What is on the server already is not sent again.
    Publish { folder: PathBuf },
    /// Releases, newest first.
    List(Limit),
    /// Everything that is known of one.
    Show { version: Version },
    /// Give a release to no more hosts.
    Withdraw { version: Version },
    /// Let another key sign releases from now on: hosts that trust the old key trust the new one then.
    RotateKey(RotateKey),
}

#[derive(Debug, clap::Args)]
struct RotateKey {
    /// The private key that has signed releases until now.
    #[arg(long, value_name = "FILE", required_unless_present = "statement", requires = "new")]
    key: Option<PathBuf>,
    /// The private key that is to sign them.
    #[arg(long, value_name = "FILE", requires = "key")]
    new: Option<PathBuf>,
    /// Write the old key's statement to this file, and tell no server.
    #[arg(long, value_name = "FILE", requires = "key")]
    out: Option<PathBuf>,
    /// Tell the server this statement, made before with --out.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    statement: Option<PathBuf>,
}

impl Args {
    /// True for what is done on this machine alone.
    pub fn is_offline(&self) -> bool {
        match &self.action {
            Some(Action::Keygen { .. } | Action::Build { .. } | Action::Sign { .. }) => true,
            Some(Action::RotateKey(rotate)) => rotate.out.is_some(),
            _ => false,
        }
    }
}

/// Carries out what needs no server.
///
/// # Errors
/// [`CliError`].
pub fn run_offline(args: Args, output: Output) -> Result<u8, CliError> {
    let (answer, line) = match args.action {
        Some(Action::Keygen { file }) => {
            let fingerprint = key_file::generate(&file)?;
            let line = format!(
                "{fingerprint}\nthe private key is in {}: keep it off the server, and keep a copy; hosts pin the fingerprint above",
                file.display()
            );
            (json!({"fingerprint": fingerprint}), line)
        }
        Some(Action::Build { folder, programs, floor }) => {
            let manifest = package::build(&folder, &programs, floor)?;
            let line = format!(
                "{} is in {}: sign it with `muster release sign`",
                manifest.version,
                folder.display()
            );
            (json!(manifest), line)
        }
        Some(Action::Sign { folder, key }) => {
            let (version, fingerprint) = package::sign(&folder, &key_file::read(&key)?)?;
            let line = format!("{version} is signed by {fingerprint}");
            (json!({"version": version, "key_fingerprint": fingerprint}), line)
        }
        Some(Action::RotateKey(RotateKey {
            key: Some(old),
            new: Some(new),
            out: Some(out),
            ..
        })) => {
            let change = statement(&old, &new)?;
            let text = serde_json::to_vec_pretty(&change).unwrap_or_default();
            key_file::write_new(&out, &text, 0o644)?;
            let line = format!(
                "the statement is in {}: tell the server with `muster release rotate-key --statement`",
                out.display()
            );
            (json!(change), line)
        }
        _ => return Err(CliError::Usage("this needs a server".into())),
    };
    output.answer(&answer, |_| line)?;
    Ok(0)
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::Publish { folder } => publishing::publish(&folder, session).await,
        Action::List(limit) => {
            let nothing = "no releases yet: see `muster release build --help`";
            let (segments, columns) = (&["releases"], &COLUMNS);
            session.list(listing::List { segments, filters: &[], limit, columns, nothing }).await
        }
        Action::Show { version } => {
            session.show(Method::GET, &["releases", &version.to_string()]).await
        }
        Action::Withdraw { version } => {
            let path = ["releases", &version.to_string(), "withdraw"];
            session.change(Method::POST, &path, &json!({})).await
        }
        Action::RotateKey(rotate) => {
            let change = match rotate {
                RotateKey { key: Some(old), new: Some(new), .. } => json!(statement(&old, &new)?),
                RotateKey { statement: Some(file), .. } => {
                    let text = std::fs::read(&file).map_err(file_error("read", &file))?;
                    let change: Value = serde_json::from_slice(&text).map_err(|error| {
                        CliError::Usage(format!("{} is no statement: {error}", file.display()))
                    })?;
                    change
                }
                _ => return Err(CliError::Usage("give --key and --new, or --statement".into())),
            };
            session.change(Method::POST, &["releases", "key-changes"], &change).await
        }
        action @ (Action::Keygen { .. } | Action::Build { .. } | Action::Sign { .. }) => {
            run_offline(Args { action: Some(action) }, session.output)
        }
    }
}

fn statement(old: &std::path::Path, new: &std::path::Path) -> Result<KeyChange, CliError> {
    let unusable = |_| CliError::Usage("the key can't be used to sign".into());
    let new = key_file::read(new)?.public().map_err(unusable)?;
    key_file::read(old)?.sign_key_change(new).map_err(unusable)
}

fn platform(text: &str) -> Result<(Platform, PathBuf), String> {
    let (name, folder) =
        text.split_once('=').ok_or("write a platform and a folder: linux-x86_64=DIR")?;
    let platform = Platform::parse(name).ok_or_else(|| {
        let known: Vec<_> = Platform::all().map(|platform| platform.to_string()).collect();
        format!("there is no platform `{name}`; known are {}", known.join(", "))
    })?;
    Ok((platform, folder.into()))
}

fn file_error(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::File { action, path, source }
}
