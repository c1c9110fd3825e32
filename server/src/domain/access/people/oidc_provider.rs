//! Providers of single sign-on (OpenID Connect), as the operator configures them, and what their claims
//! grant. Opens no connections.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::email::EmailAddress;
use crate::domain::access::principal::Role;
use crate::domain::ids::TenantId;
use crate::domain::name::check_name;
use crate::domain::outbound::{InvalidUrl, OutboundReach, OutboundUrl};
use crate::domain::time::Timestamp;

/// Values of a claim that are read.
const MAX_CLAIM_VALUES: usize = 1_000;
/// Characters of the name of a provider.
pub const MAX_PROVIDER_NAME: usize = 32;

/// What is known of a provider without being configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OidcPreset {
    /// Microsoft Entra ID, one directory.
    Entra,
    Google,
    #[default]
    Generic,
}

/// A provider in the settings file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProviderSettings {
    pub name: String,
    pub title: Option<String>,
    #[serde(default)]
    pub preset: OidcPreset,
    pub issuer: Option<String>,
    pub directory_id: Option<String>,
    pub client_id: String,
    pub client_secret_file: PathBuf,
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_private: bool,
    #[serde(default)]
    pub creates_tenants: bool,
    pub tenant_id: Option<TenantId>,
    #[serde(default)]
    pub domains: Vec<String>,
    pub role_claim: Option<String>,
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
}

/// A provider whose settings were checked.
#[derive(Debug, Clone)]
pub struct OidcProvider {
    /// Part of the paths.
    pub name: String,
    /// For people.
    pub title: String,
    pub preset: OidcPreset,
    pub issuer: String,
    pub client_id: String,
    pub client_secret_file: PathBuf,
    pub ca_file: Option<PathBuf>,
    pub reach: OutboundReach,
    /// A person without an invitation gets a tenant of its own.
    pub creates_tenants: bool,
    /// Whose members follow the provider.
    pub tenant_id: Option<TenantId>,
    domains: Vec<String>,
    pub role_claim: String,
    roles: BTreeMap<String, Role>,
}

/// What a browser brings to a provider.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    pub redirect_uri: &'a str,
    pub state: &'a str,
    pub nonce: &'a str,
    /// Of PKCE, with `S256`.
    pub challenge: &'a str,
    /// Ask the provider to prove the person again.
    pub confirms: bool,
}

/// A setting of a provider is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProvider {
    #[error("the name of a provider must be 1 to 32 lower-case letters, digits and hyphens")]
    Name,
    #[error("the title of the provider {0} is no valid name")]
    Title(String),
    #[error("the provider {0} needs `issuer`, or a preset that knows it")]
    NoIssuer(String),
    #[error("the provider {0} needs `directory_id`, the id of its directory")]
    NoDirectory(String),
    #[error("the issuer of the provider {0} {1}")]
    Issuer(String, InvalidUrl),
    #[error(
        "the provider {0} needs `tenant_id` for `roles`, and `roles` or `domains` for `tenant_id`"
    )]
    Tenant(String),
    #[error("two providers have the name {0}")]
    Twice(String),
}

/// What a provider says about a person, after its token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcClaims {
    pub subject: String,
    /// Only one that the provider has verified.
    pub email: Option<EmailAddress>,
    pub name: Option<String>,
    /// Of the claim for roles.
    pub values: Vec<String>,
    pub authenticated_at: Option<Timestamp>,
}

/// What the claims grant in the tenant of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// This role, in place of any earlier one.
    Exactly(Role),
    /// To be a member. An owner decides about the role.
    Membership,
}

impl Grant {
    /// The role of a new member.
    pub fn first_role(self) -> Role {
        match self {
            Self::Exactly(role) => role,
            Self::Membership => Role::Member,
        }
    }
}

impl OidcProvider {
    /// # Errors
    /// [`InvalidProvider`] names the provider and the setting.
    pub fn new(given: OidcProviderSettings) -> Result<Self, InvalidProvider> {
        let name = given.name;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=MAX_PROVIDER_NAME).contains(&name.len()) || !name.chars().all(is_name) {
            return Err(InvalidProvider::Name);
        }
        let title = given.title.unwrap_or_else(|| match given.preset {
            OidcPreset::Entra => "Microsoft".into(),
            OidcPreset::Google => "Google".into(),
            OidcPreset::Generic => name.clone(),
        });
        check_name(&title).map_err(|_| InvalidProvider::Title(name.clone()))?;
        let issuer = match (given.preset, given.issuer, given.directory_id) {
            (_, Some(issuer), _) => issuer,
            (OidcPreset::Google, None, _) => "https://accounts.google.com".into(),
            (OidcPreset::Entra, None, Some(id)) if uuid::Uuid::try_parse(&id).is_ok() => {
                format!("https://login.microsoftonline.com/{id}/v2.0")
            }
            (OidcPreset::Entra, None, _) => return Err(InvalidProvider::NoDirectory(name)),
            (OidcPreset::Generic, None, _) => return Err(InvalidProvider::NoIssuer(name)),
        };
        let reach =
            if given.allow_private { OutboundReach::Private } else { OutboundReach::Public };
        OutboundUrl::parse(&issuer, reach)
            .map_err(|invalid| InvalidProvider::Issuer(name.clone(), invalid))?;
        let follows = !given.roles.is_empty() || !given.domains.is_empty();
        let is_invalid = match given.tenant_id {
            Some(_) => !follows,
            None => !given.roles.is_empty(),
        };
        if is_invalid {
            return Err(InvalidProvider::Tenant(name));
        }
        let role_claim = given.role_claim.unwrap_or_else(|| match given.preset {
            OidcPreset::Entra => "roles".into(),
            OidcPreset::Google | OidcPreset::Generic => "groups".into(),
        });
        Ok(Self {
            name,
            title,
            preset: given.preset,
            issuer,
            client_id: given.client_id,
            client_secret_file: given.client_secret_file,
            ca_file: given.ca_file,
            reach,
            creates_tenants: given.creates_tenants,
            tenant_id: given.tenant_id,
            domains: given.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            role_claim,
            roles: given.roles,
        })
    }

    /// All providers, with different names.
    ///
    /// # Errors
    /// As [`OidcProvider::new`].
    pub fn all(given: Vec<OidcProviderSettings>) -> Result<Vec<Self>, InvalidProvider> {
        let mut all: Vec<Self> = Vec::new();
        for one in given {
            let one = Self::new(one)?;
            if all.iter().any(|known| known.name == one.name) {
                return Err(InvalidProvider::Twice(one.name));
            }
            all.push(one);
        }
        Ok(all)
    }

    /// Where a browser signs in; `None` if the endpoint is no URL.
    pub fn authorization_url(
        &self,
        endpoint: &str,
        request: AuthorizationRequest<'_>,
    ) -> Option<String> {
        let mut url = Url::parse(endpoint).ok()?;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("scope", "openid email profile")
            .append_pair("state", request.state)
            .append_pair("nonce", request.nonce)
            .append_pair("code_challenge", request.challenge)
            .append_pair("code_challenge_method", "S256");
        if request.confirms {
            query.append_pair("prompt", "login").append_pair("max_age", "0");
        }
        drop(query);
        Some(url.into())
    }

    /// Whether an address is one that this provider can prove: without `domains` each one.
    pub fn proves(&self, email: &EmailAddress) -> bool {
        let domain = email.as_str().rsplit('@').next().unwrap_or_default();
        self.domains.is_empty() || self.domains.iter().any(|known| known == domain)
    }

    /// What the claims grant in [`OidcProvider::tenant_id`]. Of several roles it is the highest.
    pub fn grant(&self, claims: &OidcClaims) -> Option<Grant> {
        self.tenant_id?;
        let proves = |email: &EmailAddress| self.proves(email);
        if !self.domains.is_empty() && !claims.email.as_ref().is_some_and(proves) {
            return None;
        }
        if self.roles.is_empty() {
            return Some(Grant::Membership);
        }
        let values = claims.values.iter().take(MAX_CLAIM_VALUES);
        let roles = values.filter_map(|value| self.roles.get(value).copied());
        roles.max_by_key(|role| role.rank()).map(Grant::Exactly)
    }
}

/// Where a browser goes after the sign-in: a path of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPath(String);

impl ReturnPath {
    /// Reads a path: `/`, and segments of letters, digits, hyphens and underscores, with a query of these.
    /// `None` for everything else, and for the paths of the API.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let segments = path.strip_prefix('/')?;
        let is_path = text.len() <= 512
            && (segments.is_empty()
                || segments.split('/').all(|part| !part.is_empty() && part.chars().all(is_plain)));
        let is_query = query.chars().all(|c| is_plain(c) || matches!(c, '=' | '&'));
        let is_api = segments.split('/').next() == Some("api");
        (is_path && is_query && !is_api).then(|| Self(text.to_owned()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> OidcProviderSettings {
        let text =
            format!("name = \"corp\"\nclient_id = \"muster\"\nclient_secret_file = \"s\"\n{more}");
        toml::from_str(&text).expect("settings")
    }

    fn claims(email: Option<&str>, values: &[&str]) -> OidcClaims {
        OidcClaims {
            subject: "1".into(),
            email: email.map(|email| EmailAddress::parse(email).expect("an address")),
            name: None,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            authenticated_at: None,
        }
    }

    #[test]
    fn presets_know_their_issuers_and_incomplete_providers_are_refused() {
        let issuer = |more: &str| OidcProvider::new(settings(more)).map(|made| made.issuer);
        assert_eq!(issuer("preset = \"google\"").as_deref(), Ok("https://accounts.google.com"));
        let id = "0190c3a0-0000-7000-8000-000000000000";
        let entra = format!("preset = \"entra\"\ndirectory_id = \"{id}\"");
        let expected = format!("https://login.microsoftonline.com/{id}/v2.0");
        assert_eq!(issuer(&entra), Ok(expected));
        assert_eq!(issuer(""), Err(InvalidProvider::NoIssuer("corp".into())));
        // `common` would accept the people of every directory.
        let common = "preset = \"entra\"\ndirectory_id = \"common\"";
        assert_eq!(issuer(common), Err(InvalidProvider::NoDirectory("corp".into())));
        let plain = "issuer = \"http://sso.example\"";
        assert!(matches!(issuer(plain), Err(InvalidProvider::Issuer(..))));
        let loopback = "issuer = \"http://127.0.0.1:1\"\nallow_private = true";
        assert_eq!(issuer(loopback).as_deref(), Ok("http://127.0.0.1:1"));
        let roles = "preset = \"google\"\n[roles]\nadmins = \"admin\"";
        assert_eq!(issuer(roles), Err(InvalidProvider::Tenant("corp".into())));
        let twice = vec![settings("preset = \"google\""), settings("preset = \"google\"")];
        assert!(matches!(OidcProvider::all(twice), Err(InvalidProvider::Twice(_))));
    }

    #[test]
    fn claims_grant_the_highest_role_and_only_in_the_domains() {
        let tenant = "tenant_id = \"0190c3a0-0000-7000-8000-000000000000\"\npreset = \"google\"\n";
        let of =
            |more: &str| OidcProvider::new(settings(&format!("{tenant}{more}"))).expect("made");
        let roles = of("[roles]\nstaff = \"member\"\nadmins = \"admin\"");
        let grant = |values: &[&str]| roles.grant(&claims(None, values));
        assert_eq!(grant(&["staff", "admins", "x"]), Some(Grant::Exactly(Role::Admin)));
        assert_eq!(grant(&["Staff"]), None);
        let domains = of("domains = [\"Example.com\"]");
        let grant = |email| domains.grant(&claims(email, &[]));
        assert_eq!(grant(Some("ada@example.com")), Some(Grant::Membership));
        for other in [None, Some("ada@sub.example.com"), Some("ada@badexample.com")] {
            assert_eq!(grant(other), None);
        }
        assert_eq!(Grant::Membership.first_role(), Role::Member);
        let address = |text| EmailAddress::parse(text).expect("an address");
        assert!(roles.proves(&address("ada@anywhere.example")));
        assert!(domains.proves(&address("ada@example.com")));
        assert!(!domains.proves(&address("ada@badexample.com")));
        let alone = settings("preset = \"google\"\ndomains = [\"example.com\"]");
        let alone = OidcProvider::new(alone).expect("domains need no tenant");
        assert!(!alone.proves(&address("ada@elsewhere.example")));
    }

    #[test]
    fn a_return_path_never_leaves_this_server() {
        for path in ["/", "/device?user_code=BCDF-GHJK", "/agents/01-a_b?x=1&y=2", "/apis"] {
            assert_eq!(ReturnPath::parse(path).expect(path).as_str(), path);
        }
        for other in [
            "",
            "agents",
            "//evil.example",
            "/\\evil.example",
            "/a//b",
            "/a/",
            "https://evil.example",
            "/a\r\nSet-Cookie: x",
            "/%2f%2fevil.example",
            "/.",
            "/..",
            "/a#b",
            "/a?b=/",
            "/a?u=http:",
            "/api",
            "/api/auth/logout",
            "/\t/evil.example",
            "/é",
        ] {
            assert_eq!(ReturnPath::parse(other), None, "{other:?}");
        }
    }
}
