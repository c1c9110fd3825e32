//! A file per command; here they are only told apart.

pub mod agents;
pub mod command;
#[expect(clippy::module_inception, reason = "the command is called `commands`")]
pub mod commands;
pub mod completion;
pub mod executions;
mod fan_out;
pub mod groups;
pub mod jobs;
pub mod keys;
mod listing;
pub mod login;
pub mod logs;
pub mod ping;
pub mod release;
mod rollout;
pub mod run;
pub mod webhooks;

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Api;
use crate::cli::{Action, Cli};
use crate::context::{self, Overrides};
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::output::{Output, note};
use crate::resolve;
use crate::wording;

/// What most commands work with.
pub struct Session {
    /// The server.
    pub api: Api,
    /// The reader.
    pub output: Output,
}

/// Carries out what was typed; the code to exit with.
///
/// # Errors
/// [`CliError`], which knows its exit code.
pub async fn dispatch(cli: Cli) -> Result<u8, CliError> {
    let output = Output { json: cli.json };
    let overrides = Overrides {
        server: cli.server.filter(|server| !server.is_empty()),
        api_key: std::env::var("MUSTER_API_KEY")
            .ok()
            .filter(|key| !key.trim().is_empty())
            .map(|key| key.trim().into()),
        insecure: cli.insecure,
        ca_file: cli.ca_file.filter(|path| !path.as_os_str().is_empty()),
    };
    let action = match cli.action {
        Action::Completion(args) => return completion::run(&args),
        Action::Login(args) => return login::run(args, overrides, output).await,
        Action::Release(args) if args.is_offline() => return release::run_offline(args, output),
        action => action,
    };
    let context = context::resolve(overrides, context::default_path().as_deref())?;
    let session = Session { api: Api::new(&context)?, output };
    // Whoever writes the data of a command writes fields, not options.
    let writes_fields = matches!(action, Action::Command(_));
    let outcome = match action {
        Action::Completion(_) | Action::Login(_) => Ok(0),
        Action::Agents(args) => agents::run(args, &session).await,
        Action::Keys(args) => keys::run(args, &session).await,
        Action::Ping(args) => ping::run(args, &session).await,
        Action::Command(args) => command::run(args, &session).await,
        Action::Run(args) => run::run(args, &session).await,
        Action::Logs(args) => logs::run(args, &session).await,
        Action::Jobs(args) => jobs::run(args, &session).await,
        Action::Executions(args) => executions::run(args, &session).await,
        Action::Webhooks(args) => webhooks::run(args, &session).await,
        Action::Groups(args) => groups::run(args, &session).await,
        Action::Release(args) => release::run(args, &session).await,
        Action::Commands(args) => commands::run(args, &session).await,
    };
    outcome.map_err(|error| if writes_fields { error } else { wording::of_error(error) })
}

impl Session {
    /// The id of the agent that `typed` means; an id is taken as it is.
    async fn agent_id(&self, typed: &str) -> Result<String, CliError> {
        self.id_of("agent", &["agents"], typed).await
    }

    /// The id of the agent key that `typed` means; an id is taken as it is.
    async fn key_id(&self, typed: &str) -> Result<String, CliError> {
        self.id_of("key", &["agents", "keys"], typed).await
    }

    /// [`Session::agent_id`] for what can't be undone: no beginnings of names.
    async fn exact_agent_id(&self, typed: &str) -> Result<String, CliError> {
        self.looked_up("agent", &["agents"], typed, resolve::find_exact).await
    }

    /// [`Session::key_id`] for what can't be undone: no beginnings of names.
    async fn exact_key_id(&self, typed: &str) -> Result<String, CliError> {
        self.looked_up("key", &["agents", "keys"], typed, resolve::find_exact).await
    }

    /// The id of the group that `typed` means; an id is taken as it is.
    async fn group_id(&self, typed: &str) -> Result<String, CliError> {
        self.id_of("group", &["groups"], typed).await
    }

    /// [`Session::group_id`] for what can't be undone: no beginnings of names.
    async fn exact_group_id(&self, typed: &str) -> Result<String, CliError> {
        self.looked_up("group", &["groups"], typed, resolve::find_exact).await
    }

    async fn id_of(&self, kind: &str, list: &[&str], typed: &str) -> Result<String, CliError> {
        self.looked_up(kind, list, typed, resolve::find).await
    }

    async fn looked_up(
        &self,
        kind: &str,
        list: &[&str],
        typed: &str,
        find: fn(&str, &str, &[Value]) -> Result<String, CliError>,
    ) -> Result<String, CliError> {
        if uuid::Uuid::try_parse(typed).is_ok() {
            return Ok(typed.to_owned());
        }
        let page = self.api.list(list, &[], None).await?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
        find(kind, typed, items.unwrap_or_default())
    }

    /// Sends a request without a body and shows what comes back.
    async fn show(&self, method: Method, segments: &[&str]) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(method, segments)).await?;
        self.output.details(&answer)?;
        Ok(0)
    }

    /// Sends a change and shows what it led to.
    async fn change(
        &self,
        method: Method,
        segments: &[&str],
        body: &Value,
    ) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(method, segments).json(body)).await?;
        self.output.details(&answer)?;
        Ok(0)
    }

    /// The first interrupt asks for the end of a command or a job, named as in the API; the second
    /// leaves it to itself. Never comes back before.
    async fn cancel_then_leave(
        &self,
        kind: &str,
        id: &str,
        interrupts: &mut Interrupts,
    ) -> CliError {
        interrupts.next().await;
        note("cancelling; interrupt again to leave it to itself");
        let cancel = async {
            let request = self.api.request(Method::POST, &[kind, id, "cancel"]).json(&json!({}));
            if let Err(error) = self.api.json_repeated(request).await {
                note(&format!("failed to cancel: {error}"));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel => {}
            () = interrupts.next() => {}
        }
        CliError::Interrupted(format!("left; see `muster {kind} show {id}`"))
    }

    /// Deletes, and says that it is so.
    async fn delete(&self, segments: &[&str]) -> Result<u8, CliError> {
        let answer = self.api.json(self.api.request(Method::DELETE, segments)).await?;
        self.output.answer(&answer, |_| "deleted".to_owned())?;
        Ok(0)
    }
}

/// Reads a command line as `main` does.
#[cfg(test)]
fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    <Cli as clap::Parser>::try_parse_from(std::iter::once(&"muster").chain(line))
}
