//! What providers of single sign-on prove to whom, and how people get rid of their identities.

use muster_tests::{
    ATTEMPT_COOKIE, Api, ApiResponse, Fixture, IdentityProvider, JsonFields as _, PASSWORD,
    ProviderBehaviour, ServerOptions, SmtpSink, come_back, cookie_of, eventually,
    on_both_databases, signed_in, single_sign_on, single_sign_on_with, totp_code,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    provider_proves_only_its_domains_and_invites_only_to_its_tenant,
    removed_member_stays_removed_until_it_is_invited_again,
    linked_identity_is_reported_listed_and_removed,
);

const CONFIRM_ALL: &str = "UPDATE user_sessions SET confirmed_at = created_at";

/// Restarts the server with these providers: each with its name and the settings of its own.
async fn configure(
    fixture: &mut Fixture,
    providers: &[(&str, &IdentityProvider, String)],
    options: ServerOptions,
) {
    let folder = fixture.test_dir.folder("sso");
    let secret = folder.join("secret");
    std::fs::write(&secret, muster_tests::CLIENT_SECRET).expect("write the secret");
    let provider = |(name, provider, more): &(&str, &IdentityProvider, String)| {
        format!(
            "[[oidc_provider]]\nname = \"{name}\"\nissuer = \"{}\"\nclient_id = \"{}\"\n\
             client_secret_file = \"{}\"\nallow_private = true\n{more}\n",
            provider.url(),
            muster_tests::CLIENT_ID,
            secret.display()
        )
    };
    let file = folder.join("settings.toml");
    let text: String = providers.iter().map(provider).collect();
    std::fs::write(&file, text).expect("write the settings");
    fixture.server.stop();
    fixture.server.resume_with(options.with("MUSTER_CONFIG", file.display()));
    let answer = async || fixture.api.try_send(Method::GET, "/healthz", &[], None).await.ok();
    eventually("the server answers", answer).await;
}

fn says(claims: Value) -> ProviderBehaviour {
    ProviderBehaviour { claims, ..ProviderBehaviour::default() }
}

fn person(subject: &str, email: &str, groups: Value) -> ProviderBehaviour {
    says(json!({"sub": subject, "email": email, "groups": groups}))
}

async fn identities(api: &Api) -> Vec<Value> {
    let listed = api.get("/api/me/identities").await.expect(200);
    listed["items"].as_array().expect("items").clone()
}

async fn provider_proves_only_its_domains_and_invites_only_to_its_tenant(mut fixture: Fixture) {
    let (corp, other) = (IdentityProvider::start().await, IdentityProvider::start().await);
    let other_tenant = fixture.other_tenant().await.get("/api/tenant").await.expect(200);
    let roles =
        format!("tenant_id = \"{}\"\n[oidc_provider.roles]\nbosses = \"owner\"", other_tenant.id());
    let domains = "domains = [\"example.com\"]".to_owned();
    let providers = [("corp", &corp, domains), ("other", &other, roles)];
    configure(&mut fixture, &providers, ServerOptions::default()).await;
    let owner = fixture.owner().await;
    owner.invite("grace@example.com", "owner").await;
    other.behave(person("boss", "boss@other.example", json!(["bosses"])));
    let boss = signed_in(&fixture, &single_sign_on_with(&fixture, "other", &other).await);
    fixture.server.query(CONFIRM_ALL);
    let invited = json!({"email": "ida@other.example", "role": "member"});
    boss.post("/api/invitations", invited).await.expect(201);

    // The provider of one tenant calls an address verified that another tenant has invited.
    other.behave(person("mallory", "grace@example.com", json!([])));
    let refused = single_sign_on_with(&fixture, "other", &other).await;
    refused.expect_problem(403, "not_invited");
    // A provider calls an address verified that is not in its domains.
    corp.behave(person("mallory", "ida@other.example", json!([])));
    single_sign_on(&fixture, &corp).await.expect_problem(403, "not_invited");

    corp.behave(person("grace", "grace@example.com", json!([])));
    let grace = signed_in(&fixture, &single_sign_on(&fixture, &corp).await);
    let shown = grace.get("/api/me").await.expect(200);
    assert_eq!((shown.text("role"), shown.text("tenant_name")), ("owner", "default"));
    other.behave(person("ida", "ida@other.example", json!([])));
    let ida = signed_in(&fixture, &single_sign_on_with(&fixture, "other", &other).await);
    let shown = ida.get("/api/me").await.expect(200);
    assert_eq!((shown.text("role"), &shown["tenant_id"]), ("member", &other_tenant["id"]));

    // Without a password, the last identity stays.
    let known = identities(&ida).await;
    assert_eq!((known.len(), known[0].text("provider")), (1, "other"));
    let path = format!("/api/me/identities/{}", known[0].id());
    ida.delete(&path).await.expect_problem(403, "confirmation_required");
    fixture.server.query(CONFIRM_ALL);
    ida.delete(&path).await.expect_problem(409, "last_way_in");
    grace.delete(&path).await.expect_problem(404, "not_found");
    assert_eq!(identities(&ida).await.len(), 1);
}

async fn removed_member_stays_removed_until_it_is_invited_again(mut fixture: Fixture) {
    let corp = IdentityProvider::start().await;
    let tenant = fixture.api.get("/api/tenant").await.expect(200);
    let roles =
        format!("tenant_id = \"{}\"\n[oidc_provider.roles]\nstaff = \"member\"", tenant.id());
    configure(&mut fixture, &[("corp", &corp, roles)], ServerOptions::default()).await;
    let owner = fixture.owner().await;
    corp.behave(says(json!({"groups": ["staff"]})));
    let grace = signed_in(&fixture, &single_sign_on(&fixture, &corp).await);
    let shown = grace.get("/api/me").await.expect(200);
    owner.api.delete(&format!("/api/members/{}", shown.id())).await.expect(204);
    grace.get("/api/me").await.expect_problem(401, "session_ended");
    for _ in 0..2 {
        single_sign_on(&fixture, &corp).await.expect_problem(403, "member_removed");
    }
    let members = fixture.api.get("/api/members").await.expect(200);
    assert_eq!(members["items"].as_array().map(Vec::len), Some(1), "{members}");

    owner.invite("grace@example.com", "member").await;
    let again = signed_in(&fixture, &single_sign_on(&fixture, &corp).await);
    let back = again.get("/api/me").await.expect(200);
    assert_ne!(back["id"], shown["id"]);
    assert_eq!(owner.api.get("/api/invitations").await.expect(200)["items"], json!([]));
    signed_in(&fixture, &single_sign_on(&fixture, &corp).await);
    // The membership follows the provider again.
    corp.behave(says(json!({"groups": []})));
    single_sign_on(&fixture, &corp).await.expect_problem(403, "not_invited");
}

/// Links the person of the provider to the account.
async fn link(fixture: &Fixture, corp: &IdentityProvider, api: &Api, body: Value) -> ApiResponse {
    let begun = api.post("/api/auth/oidc/corp/link", body).await;
    if begun.status != 200 {
        return begun;
    }
    let cookie = cookie_of(&begun, ATTEMPT_COOKIE).expect("a cookie");
    let location = begun.expect(200).text("authorization_url").to_owned();
    let (code, query) = corp.authorize(&location);
    come_back(fixture, &cookie, &[("code", &code), ("state", &query["state"])]).await
}

async fn linked_identity_is_reported_listed_and_removed(mut fixture: Fixture) {
    let (corp, sink) = (IdentityProvider::start().await, SmtpSink::start().await);
    let options = ServerOptions::default()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "muster@example.com");
    configure(&mut fixture, &[("corp", &corp, String::new())], options).await;
    let ada = fixture.owner().await;
    let linked = link(&fixture, &corp, &ada.api, json!({})).await;
    assert_eq!(linked.status, 303);
    let mail = sink.mail(&ada.email, 1).await;
    assert!(mail.text.contains("A person at corp was linked"), "{}", mail.text);
    let known = identities(&ada.api).await;
    assert_eq!((known.len(), known[0].text("subject")), (1, "subject-1"));
    let by_key = fixture.api.get("/api/me/identities").await;
    by_key.expect_problem(403, "session_required");
    let other = signed_in(&fixture, &single_sign_on(&fixture, &corp).await);
    let path = format!("/api/me/identities/{}", known[0].id());
    other.delete(&path).await.expect_problem(403, "confirmation_required");
    ada.api.delete(&path).await.expect(204);
    ada.api.delete(&path).await.expect_problem(404, "not_found");
    other.get("/api/me").await.expect_problem(401, "session_ended");
    single_sign_on(&fixture, &corp).await.expect_problem(403, "not_invited");
    assert!(identities(&ada.api).await.is_empty());

    // A change of the password keeps them, unless the person wants them removed.
    assert_eq!(link(&fixture, &corp, &ada.api, json!({})).await.status, 303);
    let new = "tired giraffe on a bus";
    let keep = json!({"current_password": PASSWORD, "new_password": new});
    ada.api.post("/api/me/password", keep).await.expect(204);
    assert_eq!(identities(&ada.api).await.len(), 1);
    let remove =
        json!({"current_password": new, "new_password": PASSWORD, "remove_identities": true});
    ada.api.post("/api/me/password", remove).await.expect(204);
    assert!(identities(&ada.api).await.is_empty());

    // With a second factor, a link needs its code.
    let made = ada.api.post("/api/me/totp", json!({})).await.expect(201);
    let code = json!({"code": totp_code(made.text("secret"), 0)});
    ada.api.post("/api/me/totp/confirm", code.clone()).await.expect(200);
    let without = link(&fixture, &corp, &ada.api, json!({})).await;
    without.expect_problem(403, "code_required");
    link(&fixture, &corp, &ada.api, code).await.expect_problem(422, "wrong_code");
    assert!(identities(&ada.api).await.is_empty());
    let next = json!({"code": totp_code(made.text("secret"), 1)});
    assert_eq!(link(&fixture, &corp, &ada.api, next).await.status, 303);

    // A reset of the password, and a new one from the terminal, remove them.
    let asked = sink.received().len();
    let anybody = fixture.api.with_key("");
    anybody.post("/api/auth/password-reset", json!({"email": ada.email})).await.expect(202);
    let token = eventually("the token arrives", async || {
        let mails = sink.received();
        let mail = mails.iter().skip(asked).find(|mail| mail.text.contains("mst_reset_"))?;
        Some(mail.secret().to_owned())
    });
    let by_token = fixture.api.with_key(&token.await);
    let body = json!({"password": "another giraffe on a bus"});
    by_token.post("/api/auth/password-reset/complete", body).await.expect(204);
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM identities"), ["0"]);
    single_sign_on(&fixture, &corp).await.expect_problem(403, "not_invited");
    fixture.server.query(
        "INSERT INTO identities SELECT id, user_id, 'https://sso.example', 'x', created_at, NULL \
         FROM members",
    );
    fixture.server.stop();
    let args = ["create-owner", "--email", ada.email.as_str()];
    let made = fixture.server.run_with_input(&args, &format!("{PASSWORD}\n"));
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(text.contains("links to providers of single sign-on are removed: 1"), "{text}");
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM identities"), ["0"]);
    fixture.server.resume();
    let log = fixture.server.api().get("/api/audit?limit=500").await.expect(200);
    let items = log["items"].as_array().expect("items");
    let count = |action: &str| items.iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((count("identity.create"), count("identity.delete")), (3, 4), "{log}");
}
