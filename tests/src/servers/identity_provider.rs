//! A provider of single sign-on that issues what a test sets: right tokens, and hostile ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use reqwest::Url;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The client that the provider knows.
pub const CLIENT_ID: &str = "muster";
/// Its secret.
pub const CLIENT_SECRET: &str = "a secret of the client";
const KEY_ID: &str = "key-1";

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenSignature {
    #[default]
    Right,
    /// By a key that is not published under its id.
    OtherKey,
    /// Not at all, with the algorithm `none`.
    Missing,
    /// HS256 with the secret of the client.
    ClientSecret,
    /// HS256 with the published key as a secret.
    PublicKey,
}

/// What the next tokens and answers are.
#[derive(Debug, Clone, Default)]
pub struct ProviderBehaviour {
    /// Replace claims; null removes one.
    pub claims: Value,
    pub signature: TokenSignature,
    /// Replaces fields of the discovery document.
    pub document: Value,
    /// The discovery document is a redirect to this address.
    pub redirect: Option<String>,
    /// Bytes of white space before each document.
    pub padding_bytes: usize,
}

struct IdentityProviderInner {
    url: String,
    pair: EcdsaKeyPair,
    other: EcdsaKeyPair,
    state: Mutex<ProviderState>,
}

#[derive(Default)]
struct ProviderState {
    behaviour: ProviderBehaviour,
    /// What each open code was asked for with.
    codes: HashMap<String, HashMap<String, String>>,
    issued: u32,
}

/// A provider on a port of this machine. It stops when dropped.
pub struct IdentityProvider {
    shared: Arc<IdentityProviderInner>,
    serving: JoinHandle<()>,
}

impl IdentityProvider {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let random = SystemRandom::new();
        let pair = || {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let bytes = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            EcdsaKeyPair::from_pkcs8(algorithm, bytes.as_ref(), &random).expect("a key")
        };
        let (pair, other, state) = (pair(), pair(), Mutex::default());
        let shared = Arc::new(IdentityProviderInner { url, pair, other, state });
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serve");
        });
        Self { shared, serving }
    }

    /// Its issuer.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// How it behaves from now on.
    pub fn behave(&self, behaviour: ProviderBehaviour) {
        self.shared.lock().behaviour = behaviour;
    }

    /// Its person signs in at the address that Muster sent the browser to. Returns a code, and the query of
    /// that address.
    ///
    /// # Panics
    /// If the address is not one of a code flow with PKCE, state and nonce.
    pub fn authorize(&self, location: &str) -> (String, HashMap<String, String>) {
        let url = Url::parse(location).expect("an address");
        assert!(location.starts_with(&format!("{}/authorize?", self.url())), "{location}");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("code_challenge_method", "S256"),
            ("scope", "openid email profile"),
        ] {
            assert_eq!(query.get(name).map(String::as_str), Some(value), "{location}");
        }
        for name in ["state", "nonce", "code_challenge"] {
            assert!(query.get(name).is_some_and(|value| value.len() >= 43), "{name}: {location}");
        }
        let mut state = self.shared.lock();
        state.issued += 1;
        let code = format!("code-{}", state.issued);
        state.codes.insert(code.clone(), query.clone());
        (code, query)
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl IdentityProviderInner {
    fn lock(&self) -> MutexGuard<'_, ProviderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity token for what was asked for.
    fn id_token(&self, behaviour: &ProviderBehaviour, nonce: &str) -> String {
        let now = chrono::Utc::now().timestamp();
        let mut claims = json!({"iss": self.url, "aud": CLIENT_ID, "sub": "subject-1", "nonce": nonce,
            "iat": now, "exp": now + 300, "email": "grace@example.com", "email_verified": true,
            "name": "Grace Hopper"});
        for (name, value) in behaviour.claims.as_object().into_iter().flatten() {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let algorithm = match behaviour.signature {
            TokenSignature::Right | TokenSignature::OtherKey => "ES256",
            TokenSignature::Missing => "none",
            TokenSignature::ClientSecret | TokenSignature::PublicKey => "HS256",
        };
        let header = json!({"alg": algorithm, "kid": KEY_ID, "typ": "JWT"});
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let random = SystemRandom::new();
        let by = |pair: &EcdsaKeyPair| {
            pair.sign(&random, signed.as_bytes()).expect("a signature").as_ref().to_vec()
        };
        let with = |secret: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
        };
        let signature = match behaviour.signature {
            TokenSignature::Right => by(&self.pair),
            TokenSignature::OtherKey => by(&self.other),
            TokenSignature::Missing => Vec::new(),
            TokenSignature::ClientSecret => with(CLIENT_SECRET.as_bytes()),
            TokenSignature::PublicKey => with(self.pair.public_key().as_ref()),
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn padded(shared: &IdentityProviderInner, value: &Value) -> Response {
    let padding = " ".repeat(shared.lock().behaviour.padding_bytes);
    ([(header::CONTENT_TYPE, "application/json")], format!("{padding}{value}")).into_response()
}

async fn document(State(shared): State<Arc<IdentityProviderInner>>) -> Response {
    let behaviour = shared.lock().behaviour.clone();
    if let Some(location) = behaviour.redirect {
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    let url = &shared.url;
    let mut document = json!({"issuer": url, "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/jwks"),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]});
    for (name, value) in behaviour.document.as_object().into_iter().flatten() {
        document[name] = value.clone();
    }
    padded(&shared, &document)
}

async fn keys(State(shared): State<Arc<IdentityProviderInner>>) -> Response {
    // Uncompressed: 4, then both coordinates.
    let point = shared.pair.public_key().as_ref();
    let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..]));
    let key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
        "x": x, "y": y});
    padded(&shared, &json!({"keys": [key]}))
}

async fn token(
    State(shared): State<Arc<IdentityProviderInner>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let refused =
        |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let basic = format!(
        "Basic {}",
        BASE64.encode(format!("{CLIENT_ID}:{}", CLIENT_SECRET.replace(' ', "+")).as_bytes(),)
    );
    if headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) != Some(&basic) {
        return refused("invalid_client");
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let form = Url::parse(&format!("http://form/?{body}")).expect("a form");
    let form: HashMap<String, String> = form.query_pairs().into_owned().collect();
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let Some(asked) = shared.lock().codes.remove(&field("code")) else {
        return refused("invalid_grant");
    };
    let challenge =
        BASE64URL_NOPAD.encode(digest(&SHA256, field("code_verifier").as_bytes()).as_ref());
    if asked["code_challenge"] != challenge || asked["redirect_uri"] != field("redirect_uri") {
        return refused("invalid_grant");
    }
    let behaviour = shared.lock().behaviour.clone();
    let id_token = shared.id_token(&behaviour, &asked["nonce"]);
    let answer = json!({"access_token": "x", "token_type": "Bearer", "id_token": id_token});
    Json(answer).into_response()
}
