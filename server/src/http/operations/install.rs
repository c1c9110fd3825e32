//! `/install`: the page with the install command, the install script, and the programs. Public,
//! because none of it is secret.

use std::path::Path;

use askama::Template;
use axum::Router;
use axum::extract::{Path as FromPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use muster_protocol::release::{Platform, Program, Version};
use tower_http::services::ServeFile;

use crate::http::AppState;
use crate::http::origin::InstallOrigin;
use crate::http::problem::{ApiResult, Problem};

const SCRIPT: &str = include_str!("../../../../deploy.sh");
/// The line of the script that names the server.
const SERVER_LINE: &str = "\nserver_default=''\n";
/// The line of the script with the certificate of the server's authority.
const AUTHORITY_LINE: &str = "\nserver_ca=''\n";
/// The line of the script with its version.
const VERSION_LINE: &str = "\nscript_version=''\n";
const SCRIPT_TYPE: HeaderValue = HeaderValue::from_static("text/x-shellscript; charset=utf-8");
const PEM_TYPE: HeaderValue = HeaderValue::from_static("application/x-pem-file");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The script and the page contain the URL at which they were requested.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

pub(in crate::http) fn routes() -> Router<AppState> {
    Router::new()
        .route("/install", get(show_page))
        .route("/install/deploy.sh", get(get_script))
        .route("/install/ca.pem", get(get_authority))
        .route("/install/{platform}/SHA256SUMS", get(get_sums))
        .route("/install/{platform}/{file}", get(get_program))
        .route("/install/releases/keys.json", get(get_statements))
        .route("/install/releases/{version}/release.json", get(get_descriptor))
        .route("/install/releases/{version}/release.sig", get(get_signature))
        .route("/install/releases/{version}/{platform}/{program}", get(get_released_program))
}

#[derive(Template)]
#[template(path = "install.html")]
struct InstallPage {
    /// `None` if hosts can't reach this address safely.
    line: Option<String>,
    server: String,
    /// True if browsers and other clients must be given the server's own authority.
    has_own_authority: bool,
    platforms: Vec<String>,
    version: &'static str,
}

async fn show_page(State(state): State<AppState>, reached: InstallOrigin) -> ApiResult<Response> {
    let page = InstallPage {
        server: reached.required()?.to_string(),
        line: reached.install_line("KEY"),
        has_own_authority: reached.certificate_pem().is_some(),
        platforms: state
            .services
            .installation
            .platforms()
            .await?
            .iter()
            .map(ToString::to_string)
            .collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let html = page.render().map_err(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "failed to render the install page"
        );
        Problem::busy("the page can't be rendered; see the server's log")
    })?;
    let headers = [(CONTENT_SECURITY_POLICY, PAGE_POLICY), (CACHE_CONTROL, NOT_KEPT)];
    Ok((headers, Html(html)).into_response())
}

/// The script contains the URL of its server, so that the install command needs it only once, and the
/// certificate of the server's authority, so that a script that was checked by the pin needs no other.
async fn get_script(reached: InstallOrigin) -> ApiResult<Response> {
    let origin = reached.required()?;
    let version = concat!("\nscript_version='", env!("CARGO_PKG_VERSION"), "'\n");
    let script = SCRIPT.replacen(VERSION_LINE, version, 1);
    let script = script.replacen(SERVER_LINE, &format!("\nserver_default='{origin}'\n"), 1);
    let script = match reached.certificate_pem() {
        Some(pem) => script.replacen(AUTHORITY_LINE, &format!("\nserver_ca='{pem}'\n"), 1),
        None => script,
    };
    let headers = [(CONTENT_TYPE, SCRIPT_TYPE), (CACHE_CONTROL, NOT_KEPT)];
    Ok((headers, script).into_response())
}

/// The certificate of the server's own authority, for browsers and other clients.
async fn get_authority(State(state): State<AppState>) -> ApiResult<Response> {
    let authority = state.authority.as_ref();
    let authority = authority.ok_or_else(|| Problem::not_found("authority of this server"))?;
    let headers = [(CONTENT_TYPE, PEM_TYPE), (CACHE_CONTROL, NOT_KEPT)];
    Ok((headers, authority.certificate_pem()).into_response())
}

async fn get_sums(
    State(state): State<AppState>,
    FromPath(platform): FromPath<String>,
) -> ApiResult<Response> {
    Ok(state.services.installation.sums(&platform).await?.into_response())
}

async fn get_program(
    State(state): State<AppState>,
    FromPath((platform, file)): FromPath<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let path = state.services.installation.program(&platform, &file).await?;
    serve(&path, request).await
}

async fn get_descriptor(
    State(state): State<AppState>,
    FromPath(version): FromPath<String>,
) -> ApiResult<Response> {
    let descriptor = state.services.releases.descriptor(&released(&version)?).await?;
    Ok(([(CONTENT_TYPE, JSON), (CACHE_CONTROL, NOT_KEPT)], descriptor).into_response())
}

async fn get_signature(
    State(state): State<AppState>,
    FromPath(version): FromPath<String>,
) -> ApiResult<Response> {
    let signature = state.services.releases.signature(&released(&version)?).await?;
    Ok(([(CONTENT_TYPE, JSON), (CACHE_CONTROL, NOT_KEPT)], signature).into_response())
}

async fn get_statements(State(state): State<AppState>) -> ApiResult<Response> {
    let statements = state.services.releases.statements().await?;
    Ok(([(CACHE_CONTROL, NOT_KEPT)], axum::Json(statements)).into_response())
}

async fn get_released_program(
    State(state): State<AppState>,
    FromPath((version, platform, program)): FromPath<(String, String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let unknown = || Problem::not_found("program for that platform");
    let platform = Platform::parse(&platform).ok_or_else(unknown)?;
    let program = Program::named(&program).ok_or_else(unknown)?;
    let path = state.services.releases.program(&released(&version)?, platform, program).await?;
    serve(&path, request).await
}

/// A malformed version does not exist.
fn released(version: &str) -> ApiResult<Version> {
    version.parse().map_err(|_| Problem::not_found("release"))
}

/// The file, or the requested range of it.
async fn serve(path: &Path, request: Request) -> ApiResult<Response> {
    match ServeFile::new(path).try_call(request).await {
        Ok(response) => Ok(response.map(axum::body::Body::new)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "failed to read a program");
            Err(Problem::busy("the server can't read the program; see its log"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_has_one_line_for_each_value_of_the_server() {
        assert_eq!(SCRIPT.matches(AUTHORITY_LINE).count(), 1);
        assert_eq!(SCRIPT.matches(SERVER_LINE).count(), 1);
        assert_eq!(SCRIPT.matches(VERSION_LINE).count(), 1);
    }
}
