//! `muster release`: releases of the agent and the supervisor, from the programs to the hosts.
//!
//! Actions that need the private key need no server: the key never leaves the machine that stores it.

pub mod key_file;
mod package;
mod upload;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::release::{KeyChange, Platform, Version};
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::listing::{self, Limit};
use crate::output::printer::Output;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 6] = [
    Column::of("VERSION", "version"),
    Column::of("STATE", "state"),
    Column::of("PLATFORMS", "platforms"),
    Column::of("FLOOR", "floor"),
    Column::of("PUBLISHED", "published_at"),
    Column::of("KEY", "key_fingerprint"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a private key that signs releases, and print its fingerprint (offline)
    Keygen {
        /// New file for the private key
        file: PathBuf,
    },
    /// Build a release folder from programs (offline)
    Build {
        /// Folder for the release; must not hold one yet
        folder: PathBuf,
        /// Platform, and the folder with its muster-agent and muster-supervisor; repeatable
        #[arg(long = "program", value_name = "PLATFORM=DIR", required = true, value_parser = platform)]
        programs: Vec<(Platform, PathBuf)>,
        /// Lowest version that a host accepts after it has run this release
        #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
        floor: Version,
    },
    /// Sign a release folder (offline)
    Sign {
        /// Folder of the release
        folder: PathBuf,
        /// File with the private key, from `muster release keygen`
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Upload a signed release and publish it to hosts; an interrupted upload resumes
    Publish {
        /// Folder of the release
        folder: PathBuf,
    },
    /// List all releases, newest first (default action)
    List(Limit),
    /// Show all details of a release
    Show {
        /// Version of the release
        version: Version,
    },
    /// Withdraw a release, so that no more hosts install it
    Withdraw {
        /// Version of the release
        version: Version,
    },
    /// Change the key that signs releases; hosts that trust the old key then trust the new one
    RotateKey(RotateKey),
}

#[derive(Debug, clap::Args)]
struct RotateKey {
    /// File with the old private key
    #[arg(long, value_name = "FILE", required_unless_present = "statement", requires = "new")]
    key: Option<PathBuf>,
    /// File with the new private key
    #[arg(long, value_name = "FILE", requires = "key")]
    new: Option<PathBuf>,
    /// Write the statement of the key change to this file instead of sending it (offline)
    #[arg(long, value_name = "FILE", requires = "key")]
    out: Option<PathBuf>,
    /// Send a statement that was written with --out
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    statement: Option<PathBuf>,
}

impl Args {
    /// True for actions that need no server.
    pub fn is_offline(&self) -> bool {
        match &self.action {
            Some(Action::Keygen { .. } | Action::Build { .. } | Action::Sign { .. }) => true,
            Some(Action::RotateKey(rotate)) => rotate.out.is_some(),
            _ => false,
        }
    }
}

/// Runs an action that needs no server.
///
/// # Errors
/// [`CliError`].
pub fn run_offline(args: Args, output: Output) -> Result<u8, CliError> {
    let (answer, line) = match args.action {
        Some(Action::Keygen { file }) => {
            let fingerprint = key_file::generate(&file)?;
            let line = format!(
                "{fingerprint}\nThe private key is in {}. Keep a backup, and never copy it to the server. \
                 Hosts pin the fingerprint above.",
                file.display()
            );
            (json!({"fingerprint": fingerprint}), line)
        }
        Some(Action::Build { folder, programs, floor }) => {
            let descriptor = package::build(&folder, &programs, floor)?;
            let line = format!(
                "release {} is in {}; sign it with `muster release sign`",
                descriptor.version,
                folder.display()
            );
            (json!(descriptor), line)
        }
        Some(Action::Sign { folder, key }) => {
            let (version, fingerprint) = package::sign(&folder, &key_file::read(&key)?)?;
            let line = format!("release {version} is signed by {fingerprint}");
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
                "the statement is in {}; send it with `muster release rotate-key --statement`",
                out.display()
            );
            (json!(change), line)
        }
        _ => return Err(CliError::Usage("this action needs a server".into())),
    };
    output.answer(&answer, |_| line)?;
    Ok(0)
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::Publish { folder } => upload::publish(&folder, session).await,
        Action::List(limit) => {
            let empty = "No releases yet. See `muster release build --help`.";
            let (segments, columns) = (&["releases"], &COLUMNS);
            listing::List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { version } => session.show(&["releases", &version.to_string()]).await,
        Action::Withdraw { version } => {
            session
                .act(&["releases", &version.to_string(), "withdraw"], |_| {
                    format!("Release {version} is withdrawn.")
                })
                .await
        }
        Action::RotateKey(rotate) => {
            let change = match rotate {
                RotateKey { key: Some(old), new: Some(new), .. } => json!(statement(&old, &new)?),
                RotateKey { statement: Some(file), .. } => {
                    let text = std::fs::read(&file).map_err(CliError::file("read", &file))?;
                    let change: Value = serde_json::from_slice(&text).map_err(|error| {
                        CliError::Usage(format!("{} is not a statement: {error}", file.display()))
                    })?;
                    change
                }
                _ => return Err(CliError::Usage("use --key and --new, or --statement".into())),
            };
            session
                .change(Method::POST, &["releases", "key-changes"], &change, |_| {
                    "The change of the release key is stored.".to_owned()
                })
                .await
        }
        action @ (Action::Keygen { .. } | Action::Build { .. } | Action::Sign { .. }) => {
            run_offline(Args { action: Some(action) }, session.output)
        }
    }
}

fn statement(old: &Path, new: &Path) -> Result<KeyChange, CliError> {
    let unusable = |_| CliError::Usage("the private key can't sign".into());
    let new = key_file::read(new)?.public().map_err(unusable)?;
    key_file::read(old)?.sign_key_change(new).map_err(unusable)
}

fn platform(text: &str) -> Result<(Platform, PathBuf), String> {
    let (name, folder) =
        text.split_once('=').ok_or("use PLATFORM=DIR, such as linux-x86_64=DIR")?;
    let platform = Platform::parse(name).ok_or_else(|| {
        let known: Vec<_> = Platform::all().map(|platform| platform.to_string()).collect();
        format!("unknown platform `{name}`; use one of: {}", known.join(", "))
    })?;
    Ok((platform, folder.into()))
}
