//! Passkeys: added, used instead of password and code, and removed. The device is written by the specification.

use muster_tests::{
    ApiResponse, Authenticator, Cli, Database, Fixture, JsonFields as _, PASSWORD, Person,
    PostgresDatabase, ReceivedMail, ServerOptions, SmtpSink, TestDir, eventually, sign_in,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::totp::reconnected;

const ORIGIN: &str = "https://muster.example";
const OLD: &str = "UPDATE user_sessions SET confirmed_at = confirmed_at - 901000";

/// The device with the passkey `phone` has not counted so far.
const NO_COUNT: &str = "UPDATE passkeys SET sign_count = 0, \
    credential = REPLACE(REPLACE(credential, '\"counter\":1', '\"counter\":0'), '\"counter\":3', '\"counter\":0') \
    WHERE name = 'phone'";

fn options() -> ServerOptions {
    ServerOptions::default().with("MUSTER_PUBLIC_URL", ORIGIN)
}

async fn on_sqlite() -> Fixture {
    Fixture::with(options()).await
}

async fn on_postgres() -> Fixture {
    let database = Database::Postgres(PostgresDatabase::empty());
    Fixture::on(TestDir::new(), database, options()).await
}

macro_rules! with_a_public_url {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name(super::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name(super::on_postgres().await).await;
            }
        }
    )+ };
}

with_a_public_url!(
    passkey_is_added_and_signs_in_instead_of_password_and_code,
    signatures_of_others_for_others_or_from_before_sign_no_person_in,
    passkey_confirms_dangerous_changes_and_its_removal_ends_other_sessions,
    passkey_of_another_person_confirms_nothing_and_can_not_be_removed,
    passkeys_of_a_person_are_bounded_and_need_a_password,
    first_passkey_has_recovery_codes_which_go_with_the_last_one,
);

/// What a device is asked for, to sign.
async fn asked(fixture: &Fixture) -> Value {
    let api = fixture.api.with_key("");
    api.post("/api/auth/passkey/challenge", json!({})).await.expect(200)
}

/// Adds a passkey to a person. Returns the answer.
async fn add(person: &Person, device: &mut Authenticator, name: &str) -> Value {
    let asked = person.api.post("/api/me/passkeys/challenge", json!({})).await.expect(200);
    person.api.post("/api/me/passkeys", device.make(&asked, name)).await.expect(201)
}

async fn present(fixture: &Fixture, signed: &Value) -> ApiResponse {
    fixture.api.with_key("").post("/api/auth/passkey", json!({"passkey": signed})).await
}

async fn signed_in(fixture: &Fixture, device: &mut Authenticator) -> ApiResponse {
    let signed = device.sign(&asked(fixture).await);
    present(fixture, &signed).await
}

async fn remove(person: &Person, id: &str) -> ApiResponse {
    let path = format!("/api/me/passkeys/{id}");
    person.api.send(Method::DELETE, &path, Some(json!({}))).await
}

async fn passkey_is_added_and_signs_in_instead_of_password_and_code(fixture: Fixture) {
    let owner = fixture.owner().await;
    let mut device = Authenticator::new(ORIGIN);
    let none = owner.api.get("/api/me/passkeys").await.expect(200);
    assert_eq!(none, json!({"items": [], "are_possible": true}));
    let added = add(&owner, &mut device, "laptop").await;
    assert_eq!(added["passkey"]["name"], "laptop", "{added}");

    let answer = signed_in(&fixture, &mut device).await.expect(200);
    let by_passkey = Person::of(&fixture.api, &owner.email, &answer);
    assert_eq!(by_passkey.member_id, owner.member_id);
    by_passkey.api.get("/api/agents").await.expect(200);
    let listed = by_passkey.api.get("/api/me/passkeys").await.expect(200);
    assert!(listed["items"][0]["last_used_at"].is_string(), "{listed}");

    // It is a second factor: a tenant may require one, and the password alone is not enough.
    let required = json!({"requires_second_factor": true});
    by_passkey.api.patch("/api/tenant", required).await.expect(200);
    by_passkey.api.get("/api/agents").await.expect(200);
    let waiting = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(202);
    assert_eq!(waiting["methods"], json!(["recovery_code", "passkey"]), "{waiting}");
    assert_eq!(waiting["access_token"], Value::Null, "{waiting}");

    let log = fixture.api.get("/api/audit?action=session.create").await.expect(200);
    let how = &log["items"][0]["detail"];
    assert_eq!(how["second_factor"], "passkey", "{log}");
    assert_eq!(how["passkey_id"], added["passkey"]["id"], "{log}");
}

async fn signatures_of_others_for_others_or_from_before_sign_no_person_in(fixture: Fixture) {
    let owner = fixture.owner().await;
    let other = owner.add("bob@example.com", "admin").await;
    let mut device = Authenticator::new(ORIGIN);
    add(&owner, &mut device, "laptop").await;
    let mut other_device = Authenticator::new(ORIGIN);
    add(&other, &mut other_device, "phone").await;
    let wrong = |answer: ApiResponse| answer.expect_problem(401, "wrong_passkey");

    // A page of another person, a device that did not verify its person, a device that was not added.
    device.origin = "https://muster.example.evil.example".to_owned();
    wrong(signed_in(&fixture, &mut device).await);
    ORIGIN.clone_into(&mut device.origin);
    // The page of this server, and a passkey for the domain above it, which other servers share.
    device.host = Some("example".to_owned());
    wrong(signed_in(&fixture, &mut device).await);
    device.host = None;
    device.verifies_person = false;
    wrong(signed_in(&fixture, &mut device).await);
    device.verifies_person = true;
    let mut stranger = Authenticator::new(ORIGIN);
    stranger.user_handle.clone_from(&device.user_handle);
    wrong(signed_in(&fixture, &mut stranger).await);
    // With the name of a known passkey, but another key pair.
    stranger.credential_id.clone_from(&device.credential_id);
    stranger.sign_count = 50;
    wrong(signed_in(&fixture, &mut stranger).await);
    // A passkey of one person for another.
    let mut signed = other_device.sign(&asked(&fixture).await);
    signed["user_handle"] = json!(device.user_handle);
    wrong(present(&fixture, &signed).await);

    // A signature for another challenge, and one that was used.
    let (first, second) = (asked(&fixture).await, asked(&fixture).await);
    let mut signed = device.sign(&first);
    signed["challenge"] = second["challenge"].clone();
    wrong(present(&fixture, &signed).await);
    let signed = device.sign(&asked(&fixture).await);
    present(&fixture, &signed).await.expect(200);
    let again = present(&fixture, &signed).await;
    assert_eq!(again.status, 401, "{}", again.json());

    // A device that does not count: its signature still begins one session only.
    other_device.sign_count = 0;
    fixture.server.query(NO_COUNT);
    let signed = other_device.sign(&asked(&fixture).await);
    present(&fixture, &signed).await.expect(200);
    present(&fixture, &signed).await.expect_problem(401, "invalid_challenge");
    // A copy of a device counts behind.
    device.sign_count = 1;
    wrong(signed_in(&fixture, &mut device).await);

    // A challenge of another kind, none at all, and one that was changed.
    let making = owner.api.post("/api/me/passkeys/challenge", json!({"code": "x"})).await;
    making.expect_problem(422, "wrong_code");
    let mut signed = device.sign(&asked(&fixture).await);
    for challenge in ["", "mst_passkey_", "mst_challenge_AAAA", "mst_passkey_AAAAAAAA"] {
        signed["challenge"] = json!(challenge);
        present(&fixture, &signed).await.expect_problem(401, "invalid_challenge");
    }
    signed["signature"] = json!("not base64url!");
    present(&fixture, &signed).await.expect_problem(422, "invalid_field");
}

async fn passkey_confirms_dangerous_changes_and_its_removal_ends_other_sessions(fixture: Fixture) {
    let owner = fixture.owner().await;
    let mut device = Authenticator::new(ORIGIN);
    let added = add(&owner, &mut device, "laptop").await;
    let id = added["passkey"].id().to_owned();
    let answer = signed_in(&fixture, &mut device).await.expect(200);
    let elsewhere = Person::of(&fixture.api, &owner.email, &answer);

    // The session began with the password, so a code is missing.
    remove(&owner, &id).await.expect_problem(403, "code_required");
    fixture.server.query(OLD);
    remove(&elsewhere, &id).await.expect_problem(403, "confirmation_required");
    let mut other_device = Authenticator::new(ORIGIN);
    other_device.user_handle.clone_from(&device.user_handle);
    let signed = other_device.sign(&asked(&fixture).await);
    let wrong = owner.api.post("/api/auth/confirm", json!({"passkey": signed})).await;
    wrong.expect_problem(403, "wrong_passkey");
    let signed = device.sign(&asked(&fixture).await);
    owner.api.post("/api/auth/confirm", json!({"passkey": signed})).await.expect(200);

    let nothing = remove(&owner, &owner.member_id).await;
    assert_eq!(nothing.status, 404, "{}", nothing.json());
    remove(&owner, &id).await.expect(204);
    elsewhere.api.get("/api/me").await.expect_problem(401, "session_ended");
    signed_in(&fixture, &mut device).await.expect_problem(401, "wrong_passkey");
    let by_key = fixture.api.get("/api/me/passkeys").await;
    by_key.expect_problem(403, "session_required");
}

async fn passkey_of_another_person_confirms_nothing_and_can_not_be_removed(fixture: Fixture) {
    let owner = fixture.owner().await;
    let other = owner.add("bob@example.com", "admin").await;
    let mut other_device = Authenticator::new(ORIGIN);
    let added = add(&other, &mut other_device, "phone").await;
    let id = added["passkey"].id();

    fixture.server.query(OLD);
    let signed = other_device.sign(&asked(&fixture).await);
    let refused = owner.api.post("/api/auth/confirm", json!({"passkey": signed})).await;
    refused.expect_problem(403, "wrong_passkey");
    remove(&owner, id).await.expect_problem(403, "confirmation_required");
    let password = json!({"password": PASSWORD});
    owner.api.post("/api/auth/confirm", password).await.expect(200);
    remove(&owner, id).await.expect_problem(404, "not_found");
    let listed = owner.api.get("/api/me/passkeys").await.expect(200);
    assert_eq!(listed["items"], json!([]));
    signed_in(&fixture, &mut other_device).await.expect(200);

    // A device that does not count: its signature confirms again, and for no longer.
    other_device.sign_count = 0;
    fixture.server.query(NO_COUNT);
    let signed = json!({"passkey": other_device.sign(&asked(&fixture).await)});
    let confirm = async || other.api.post("/api/auth/confirm", signed.clone()).await.expect(200);
    let confirmed = confirm().await;
    assert_eq!(confirm().await, confirmed);
}

async fn passkeys_of_a_person_are_bounded_and_need_a_password(fixture: Fixture) {
    let owner = fixture.owner().await;
    let mut device = Authenticator::new(ORIGIN);
    add(&owner, &mut device, "first").await;
    // A session that began with a passkey needs no code.
    let answer = signed_in(&fixture, &mut device).await.expect(200);
    let by_passkey = Person::of(&fixture.api, &owner.email, &answer);
    for number in 2..=16 {
        add(&by_passkey, &mut Authenticator::new(ORIGIN), &format!("device {number}")).await;
    }
    let begun =
        async || by_passkey.api.post("/api/me/passkeys/challenge", json!({})).await.expect(200);
    let body = Authenticator::new(ORIGIN).make(&begun().await, "one more");
    let refused = by_passkey.api.post("/api/me/passkeys", body).await;
    refused.expect_problem(409, "too_many_passkeys");
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM passkeys"), ["16"]);

    // A provider decides how people without a password prove who they are.
    fixture.server.query("UPDATE users SET password_hash = ''");
    let refused = by_passkey.api.post("/api/me/passkeys/challenge", json!({})).await;
    refused.expect_problem(409, "password_required");
}

async fn first_passkey_has_recovery_codes_which_go_with_the_last_one(fixture: Fixture) {
    let owner = fixture.owner().await;
    let answer = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    let earlier = Person::of(&fixture.api, &owner.email, &answer);
    let mut device = Authenticator::new(ORIGIN);
    let added = add(&owner, &mut device, "laptop").await;
    let codes = added.list("recovery_codes").clone();
    assert_eq!(codes.len(), 10);
    // It began without the second factor.
    earlier.api.get("/api/me").await.expect_problem(401, "session_ended");

    // Without the device: the password and a recovery code.
    let waiting = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(202);
    let body = json!({"challenge": waiting.text("challenge"), "code": codes[0]});
    let api = fixture.api.with_key("");
    let answer = api.post("/api/auth/login/code", body).await.expect(200);
    let recovered = Person::of(&fixture.api, &owner.email, &answer);

    // A recovery code counts once.
    let waiting = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(202);
    let body = json!({"challenge": waiting.text("challenge"), "code": codes[0]});
    let again = api.post("/api/auth/login/code", body).await;
    again.expect_problem(401, "wrong_second_factor");

    // A second one needs a code, and brings no codes. The same device has one passkey.
    let refused = recovered.api.post("/api/me/passkeys/challenge", json!({})).await;
    refused.expect_problem(403, "code_required");
    let proof = json!({"code": codes[1]});
    let asked = recovered.api.post("/api/me/passkeys/challenge", proof).await.expect(200);
    let known = asked.list("known");
    assert_eq!(known.len(), 1, "{asked}");
    let again = recovered.api.post("/api/me/passkeys", device.make(&asked, "again")).await;
    again.expect_problem(409, "passkey_taken");
    let mut phone = Authenticator::new(ORIGIN);
    let body = phone.make(&asked, "phone");
    let added_phone = recovered.api.post("/api/me/passkeys", body).await.expect(201);
    assert_eq!(added_phone["recovery_codes"], json!([]));
    // A challenge is for the session that it was made for.
    let body = Authenticator::new(ORIGIN).make(&asked, "other");
    owner.api.post("/api/me/passkeys", body).await.expect_problem(401, "invalid_challenge");

    let answer = signed_in(&fixture, &mut phone).await.expect(200);
    let by_phone = Person::of(&fixture.api, &owner.email, &answer);
    remove(&by_phone, added["passkey"].id()).await.expect(204);
    let state = by_phone.api.get("/api/me/totp").await.expect(200);
    assert_eq!(state["recovery_codes_left"], 8, "{state}");
    remove(&by_phone, added_phone["passkey"].id()).await.expect(204);
    let state = by_phone.api.get("/api/me/totp").await.expect(200);
    assert_eq!(state["recovery_codes_left"], 0, "{state}");
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
}

/// What is changed without the person is noticed by the person and by the owners of its tenants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_gets_a_mail_and_each_tenant_an_entry_about_a_passkey() {
    let sink = SmtpSink::start().await;
    let options = options()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "Muster <muster@example.com>");
    let fixture = Fixture::with(options).await;
    let owner = fixture.owner().await;
    let mut device = Authenticator::new(ORIGIN);
    let added = add(&owner, &mut device, "laptop").await;
    let id = added["passkey"].id();
    let about = |mails: &[ReceivedMail], words: &str| {
        mails.iter().filter(|mail| mail.to == owner.email && mail.text.contains(words)).count()
    };
    for (words, action) in [
        ("A passkey was added to your account", "passkey.create"),
        ("A passkey was removed from your account", "passkey.delete"),
    ] {
        if action == "passkey.delete" {
            let answer = signed_in(&fixture, &mut device).await.expect(200);
            remove(&Person::of(&fixture.api, &owner.email, &answer), id).await.expect(204);
        }
        eventually(words, async || (about(&sink.received(), words) == 1).then_some(())).await;
        let log = fixture.api.get(&format!("/api/audit?action={action}")).await.expect(200);
        assert_eq!(log.list("items").len(), 1, "{log}");
        assert_eq!(log["items"][0]["actor_id"], owner.member_id.as_str(), "{log}");
    }
    // A sign-in that fails is in the log of its tenant or of the server.
    signed_in(&fixture, &mut device).await.expect_problem(401, "wrong_passkey");
    let log = fixture.api.get("/api/audit?log=server&action=session.refuse").await.expect(200);
    assert_eq!(log.list("items").len(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_without_a_public_name_has_no_passkeys_and_says_what_to_set() {
    for options in [
        ServerOptions::default(),
        ServerOptions::default().with("MUSTER_PUBLIC_URL", "https://10.0.0.5"),
    ] {
        let fixture = Fixture::with(options).await;
        let owner = fixture.owner().await;
        let listed = owner.api.get("/api/me/passkeys").await.expect(200);
        assert_eq!(listed["are_possible"], false, "{listed}");
        let begun = owner.api.post("/api/me/passkeys/challenge", json!({})).await;
        begun.expect_problem(409, "public_url_required");
        let api = fixture.api.with_key("");
        let asked = api.post("/api/auth/passkey/challenge", json!({})).await;
        asked.expect_problem(409, "public_url_required");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_are_listed_and_removed_at_the_command_line_and_reset_by_the_operator() {
    let mut fixture = on_sqlite().await;
    let owner = fixture.owner().await;
    let mut device = Authenticator::new(ORIGIN);
    let added = add(&owner, &mut device, "laptop").await;
    let codes: Vec<_> = added.list("recovery_codes").iter().filter_map(Value::as_str).collect();
    let (url, id) = (fixture.server.url(), added["passkey"].id());
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &url, "--email", &owner.email];
    cli.run_with_input(&login, &format!("{PASSWORD}\n{}\n", codes[0])).await.expect(0);
    let listed = cli.run(&["passkeys"]).await.expect(0);
    assert!(listed.contains("laptop") && listed.contains(id), "{listed}");
    let refused = cli.run(&["passkeys", "remove", id]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("recovery code"), "{}", refused.stderr);
    let remove = ["passkeys", "remove", id, "--code"];
    cli.run_with_input(&remove, &format!("{}\n", codes[1])).await.expect(0);
    signed_in(&fixture, &mut device).await.expect_problem(401, "wrong_passkey");

    let answer = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    let again = Person::of(&fixture.api, &owner.email, &answer);
    let mut device = Authenticator::new(ORIGIN);
    add(&again, &mut device, "phone").await;
    fixture.server.stop();
    let done = fixture.server.run(&["reset-second-factor", &owner.email]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fixture.server.resume();
    reconnected(&fixture).await;
    signed_in(&fixture, &mut device).await.expect_problem(401, "wrong_passkey");
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
}
