//! People sign in with a provider of OpenID Connect.

use muster_tests::{
    Fixture, IdentityProvider, JsonFields as _, PASSWORD, ProviderBehaviour, ServerOptions,
    TokenSignature, begin, browse, come_back, on_both_databases, sign_in, signed_in,
    single_sign_on,
};
use serde_json::{Value, json};

on_both_databases!(
    invited_person_joins_at_the_first_sign_in_and_only_with_a_verified_address,
    role_follows_the_groups_of_the_provider_and_ends_with_them,
    account_with_the_same_address_is_linked_only_by_its_person,
);

/// Restarts the server with this provider, named `corp`.
fn configure(fixture: &mut Fixture, provider: &IdentityProvider, more: &str) {
    let folder = fixture.test_dir.folder("sso");
    let secret = folder.join("secret");
    std::fs::write(&secret, format!("{}\n", muster_tests::CLIENT_SECRET))
        .expect("write the secret");
    let text = format!(
        "[[oidc_provider]]\nname = \"corp\"\ntitle = \"Corporation\"\nissuer = \"{}\"\n\
         client_id = \"{}\"\nclient_secret_file = \"{}\"\nallow_private = true\n{more}",
        provider.url(),
        muster_tests::CLIENT_ID,
        secret.display()
    );
    let file = folder.join("settings.toml");
    std::fs::write(&file, text).expect("write the settings");
    fixture.server.stop();
    let options = ServerOptions::default().with("MUSTER_CONFIG", file.display());
    fixture.server.resume_with(options);
}

fn says(claims: Value) -> ProviderBehaviour {
    ProviderBehaviour { claims, ..ProviderBehaviour::default() }
}

async fn actions(fixture: &Fixture) -> Vec<String> {
    let log = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let items = log["items"].as_array().expect("items").iter();
    items.map(|entry| entry.text("action").to_owned()).collect()
}

async fn invited_person_joins_at_the_first_sign_in_and_only_with_a_verified_address(
    mut fixture: Fixture,
) {
    let provider = IdentityProvider::start().await;
    configure(&mut fixture, &provider, "");
    let owner = fixture.owner().await;
    let offered = fixture.api.with_key("").get("/api/auth/oidc/providers").await.expect(200);
    let expected = json!({"items": [{"name": "corp", "title": "Corporation",
        "start_path": "/api/auth/oidc/corp/start"}]});
    assert_eq!(offered, expected);

    single_sign_on(&fixture, &provider).await.expect_problem(403, "not_invited");
    owner.invite("grace@example.com", "admin").await;
    for unverified in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email": null}),
        json!({"email": "mallory@example.com"}),
    ] {
        provider.behave(says(unverified));
        single_sign_on(&fixture, &provider).await.expect_problem(403, "not_invited");
    }
    provider.behave(ProviderBehaviour::default());
    let answer = single_sign_on(&fixture, &provider).await;
    assert_eq!(answer.header("location"), "/");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    for cookie in cookies {
        let text = cookie.to_str().expect("text");
        assert!(text.starts_with("__Host-") && text.contains("; Secure; HttpOnly; SameSite="));
    }
    let me = signed_in(&fixture, &answer).get("/api/me").await.expect(200);
    assert_eq!((me.text("name"), me.text("role")), ("Grace Hopper", "admin"));
    assert_eq!(me["session"]["confirmed_at"], Value::Null);
    assert!(owner.api.get("/api/invitations").await.expect(200)["items"] == json!([]));

    // The subject names the person, even after a change of the address.
    provider.behave(says(json!({"email": "grace.hopper@example.com"})));
    let again = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    assert_eq!(again.get("/api/me").await.expect(200)["id"], me["id"]);
    provider.behave(says(json!({"sub": "subject-2"})));
    single_sign_on(&fixture, &provider).await.expect_problem(409, "identity_not_linked");
    // An account without a password can't sign in with one.
    for password in ["", PASSWORD] {
        let refused = sign_in(&fixture.api, "grace@example.com", password).await;
        refused.expect_problem(401, "wrong_sign_in");
    }
    // Nor does anybody get one by mail: it would outlast the provider's word.
    let settings = fixture.test_dir.path().join("sso/settings.toml");
    let options = ServerOptions::default().with("MUSTER_CONFIG", settings.display());
    fixture.server.stop();
    fixture.server.resume_with(options.with("MUSTER_DEMO_PRINT_CODES", "true"));
    let people = [("grace@example.com", "0"), ("ada@example.com", "1")];
    for (email, tokens) in people {
        fixture.api.post("/api/auth/password-reset", json!({"email": email})).await.expect(202);
        let stored = fixture.server.query("SELECT COUNT(*) FROM password_resets");
        assert_eq!(stored, [tokens], "{email}");
    }
    // Sign-ins from one address are limited.
    fixture.server.stop();
    fixture.server.resume();
    // A proof counts only if the provider says when it was given.
    let now = chrono::Utc::now().timestamp();
    for (authenticated, is_proof) in
        [(json!(now), true), (json!(now - 3_600), false), (Value::Null, false)]
    {
        provider.behave(says(json!({"auth_time": authenticated})));
        let begun = begin(&fixture, "?confirm=true&return_to=/agents").await;
        let (code, query) = provider.authorize(&begun.location);
        assert_eq!((query["prompt"].as_str(), query["max_age"].as_str()), ("login", "0"));
        let brought = [("code", code.as_str()), ("state", &query["state"])];
        let answer = come_back(&fixture, &begun.cookie, &brought).await;
        assert_eq!(answer.header("location"), "/agents");
        let me = signed_in(&fixture, &answer).get("/api/me").await.expect(200);
        assert_eq!(me["session"]["confirmed_at"].is_string(), is_proof, "{authenticated}: {me}");
    }
}

async fn role_follows_the_groups_of_the_provider_and_ends_with_them(mut fixture: Fixture) {
    let provider = IdentityProvider::start().await;
    let tenant = fixture.api.get("/api/tenant").await.expect(200);
    let roles = format!(
        "tenant_id = \"{}\"\ndomains = [\"example.com\"]\n[oidc_provider.roles]\nstaff = \"member\"\nadmins = \"admin\"\n",
        tenant.id()
    );
    configure(&mut fixture, &provider, &roles);
    fixture.owner().await;
    let groups = |groups: Value| says(json!({"groups": groups}));
    provider.behave(groups(json!(["others"])));
    single_sign_on(&fixture, &provider).await.expect_problem(403, "not_invited");
    provider.behave(says(json!({"groups": ["admins"], "email": "grace@elsewhere.example"})));
    single_sign_on(&fixture, &provider).await.expect_problem(403, "not_invited");

    provider.behave(groups(json!(["others", "staff"])));
    let as_member = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    assert_eq!(as_member.get("/api/me").await.expect(200)["role"], "member");
    provider.behave(groups(json!(["staff", "admins"])));
    let as_admin = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    assert_eq!(as_admin.get("/api/me").await.expect(200)["role"], "admin");
    provider.behave(groups(json!("staff")));
    let lowered = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    assert_eq!(lowered.get("/api/me").await.expect(200)["role"], "member");
    as_admin.get("/api/agents").await.expect_problem(401, "session_ended");

    provider.behave(groups(json!([])));
    single_sign_on(&fixture, &provider).await.expect_problem(403, "not_invited");
    lowered.get("/api/agents").await.expect_problem(401, "session_ended");
    let members = fixture.api.get("/api/members").await.expect(200);
    assert_eq!(members["items"].as_array().map(Vec::len), Some(1), "{members}");
    let log = actions(&fixture).await;
    for (action, count) in [("member.create", 2), ("member.update", 2), ("member.delete", 1)] {
        assert_eq!(log.iter().filter(|known| *known == action).count(), count, "{action}: {log:?}");
    }
    // Back in the group, the same account joins again.
    provider.behave(groups(json!(["staff"])));
    signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    let people = "SELECT COUNT(*) FROM users WHERE email = 'grace@example.com'";
    assert_eq!(fixture.server.query(people), ["1"]);
}

async fn account_with_the_same_address_is_linked_only_by_its_person(mut fixture: Fixture) {
    let provider = IdentityProvider::start().await;
    configure(&mut fixture, &provider, "creates_tenants = true\n");
    let owner = fixture.owner().await;
    let grace = owner.add("grace@example.com", "member").await;
    single_sign_on(&fixture, &provider).await.expect_problem(409, "identity_not_linked");
    let link = async |person: &muster_tests::Person| {
        person.api.post("/api/auth/oidc/corp/link", json!({"return_to": "/settings"})).await
    };
    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    link(&grace).await.expect_problem(403, "confirmation_required");
    grace.api.post("/api/auth/confirm", json!({"password": PASSWORD})).await.expect(200);
    let by_key = fixture.api.post("/api/auth/oidc/corp/link", json!({})).await;
    by_key.expect_problem(403, "session_required");

    let come_from_link = async |person: &muster_tests::Person| {
        let begun = link(person).await;
        let cookie =
            muster_tests::cookie_of(&begun, muster_tests::ATTEMPT_COOKIE).expect("a cookie");
        let location = begun.expect(200).text("authorization_url").to_owned();
        let (code, query) = provider.authorize(&location);
        come_back(&fixture, &cookie, &[("code", &code), ("state", &query["state"])]).await
    };
    let answer = come_from_link(&grace).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/settings"));
    assert!(muster_tests::cookie_of(&answer, "__Host-muster_access").is_none());
    let me = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    assert_eq!(me.get("/api/me").await.expect(200)["id"], grace.member_id.as_str());
    // No other account gets it.
    owner.api.post("/api/auth/confirm", json!({"password": PASSWORD})).await.expect(200);
    come_from_link(&owner).await.expect_problem(409, "identity_taken");
    assert_eq!(actions(&fixture).await.iter().filter(|one| *one == "identity.create").count(), 1);

    // An unknown person gets a tenant of its own, as the operator allows.
    provider.behave(says(json!({"sub": "subject-9", "email": "eve@example.com"})));
    let eve = signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
    let shown = eve.get("/api/me").await.expect(200);
    assert_eq!((shown.text("role"), shown.text("tenant_name")), ("owner", "eve@example.com"));
    assert_ne!(shown["tenant_id"], me.get("/api/me").await.expect(200)["tenant_id"]);
    eve.get(&format!("/api/members/{}", grace.member_id)).await;
    assert_eq!(
        eve.get("/api/members").await.expect(200)["items"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_forged_old_or_for_others_are_refused() {
    let mut fixture = Fixture::on_sqlite().await;
    let provider = IdentityProvider::start().await;
    configure(&mut fixture, &provider, "creates_tenants = true\n");
    let now = chrono::Utc::now().timestamp();
    let wrong_claims = [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": format!("{}/", provider.url())}),
        json!({"aud": "another"}),
        json!({"aud": ["muster", "another"]}),
        json!({"aud": null}),
        json!({"azp": "another"}),
        json!({"exp": now - 1}),
        json!({"exp": null}),
        json!({"iat": now - 3_600}),
        json!({"iat": now + 3_600}),
        json!({"sub": ""}),
        json!({"sub": null}),
        json!({"sub": "x".repeat(256)}),
    ];
    let mut wrong: Vec<_> = wrong_claims.into_iter().map(says).collect();
    for signature in [
        TokenSignature::OtherKey,
        TokenSignature::Missing,
        TokenSignature::ClientSecret,
        TokenSignature::PublicKey,
    ] {
        wrong.push(ProviderBehaviour { signature, ..ProviderBehaviour::default() });
    }
    for behaviour in wrong {
        // Sign-ins from one address are limited.
        fixture.server.stop();
        fixture.server.resume();
        provider.behave(behaviour.clone());
        let answer = single_sign_on(&fixture, &provider).await;
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status, &code), (401, &json!("provider_refused")), "{behaviour:?}");
        assert!(muster_tests::cookie_of(&answer, "__Host-muster_access").is_none());
    }
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM identities"), ["0"]);
    provider.behave(ProviderBehaviour::default());
    signed_in(&fixture, &single_sign_on(&fixture, &provider).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_codes_and_return_paths_of_others_are_refused() {
    let mut fixture = Fixture::on_sqlite().await;
    let provider = IdentityProvider::start().await;
    configure(&mut fixture, &provider, "creates_tenants = true\n");
    let (mine, other) = (begin(&fixture, "").await, begin(&fixture, "").await);
    let (code, query) = provider.authorize(&mine.location);
    let (other_code, other_query) = provider.authorize(&other.location);
    let right = [("code", code.as_str()), ("state", query["state"].as_str())];
    // Another browser, and the state of another sign-in.
    for (cookie, state) in [
        ("", query["state"].as_str()),
        (&other.cookie, &query["state"]),
        (&mine.cookie, &other_query["state"]),
        (&mine.cookie, ""),
        ("__Host-muster_sign_in=AAAA", ""),
    ] {
        let answer = come_back(&fixture, cookie, &[("code", &code), ("state", state)]).await;
        answer.expect_problem(401, "invalid_state");
    }
    // The code of another sign-in: its verifier is another one.
    let mixed = [("code", other_code.as_str()), ("state", query["state"].as_str())];
    come_back(&fixture, &mine.cookie, &mixed).await.expect_problem(401, "provider_refused");
    let foreign = [right[0], right[1], ("iss", "https://evil.example")];
    come_back(&fixture, &mine.cookie, &foreign).await.expect_problem(401, "provider_refused");
    let denied = [("error", "access_denied"), right[1]];
    come_back(&fixture, &mine.cookie, &denied).await.expect_problem(403, "provider_denied");
    signed_in(&fixture, &come_back(&fixture, &mine.cookie, &right).await);
    // Replayed, the provider refuses the code.
    come_back(&fixture, &mine.cookie, &right).await.expect_problem(401, "provider_refused");

    let url = fixture.server.url();
    for path in
        ["//evil.example", "https://evil.example", "/\\evil.example", "/api/auth/logout", "x"]
    {
        let start = format!("{url}/api/auth/oidc/corp/start");
        let start = reqwest::Url::parse_with_params(&start, [("return_to", path)]).expect("a URL");
        let answer = browse(start.as_str(), "").await;
        assert_eq!(answer.headers.get("location"), None, "{path}");
        answer.expect_problem(422, "invalid_field");
    }
    browse(&format!("{url}/api/auth/oidc/nobody/start"), "").await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_documents_of_a_provider_are_refused() {
    let mut fixture = Fixture::on_sqlite().await;
    let provider = IdentityProvider::start().await;
    configure(&mut fixture, &provider, "");
    let document = |document: Value| ProviderBehaviour { document, ..ProviderBehaviour::default() };
    let hostile = [
        document(json!({"issuer": "https://evil.example"})),
        document(json!({"authorization_endpoint": "javascript:alert(1)"})),
        document(json!({"authorization_endpoint": "http://169.254.169.254/"})),
        document(json!({"jwks_uri": "http://169.254.169.254/latest/meta-data"})),
        document(json!({"jwks_uri": "file:///etc/passwd"})),
        ProviderBehaviour { padding_bytes: 300 * 1024, ..ProviderBehaviour::default() },
        ProviderBehaviour {
            redirect: Some(format!("{}/jwks", provider.url())),
            ..ProviderBehaviour::default()
        },
    ];
    let start = format!("{}/api/auth/oidc/corp/start", fixture.server.url());
    for behaviour in hostile {
        provider.behave(behaviour.clone());
        let answer = browse(&start, "").await;
        assert_eq!(answer.status, 503, "{behaviour:?}");
        answer.expect_problem(503, "provider_unavailable");
    }
    provider.behave(ProviderBehaviour::default());
    begin(&fixture, "").await;
}
