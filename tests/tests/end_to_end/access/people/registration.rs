//! People create an account and a tenant of their own.

use muster_tests::{
    Api, ApiResponse, Cli, Database, Fixture, JsonFields as _, PASSWORD, Person, PostgresDatabase,
    ServerOptions, SmtpSink, TestDir, sign_in,
};
use serde_json::{Value, json};

/// A server where anybody may register, on one of the databases.
async fn open(sink: &SmtpSink, database: Database) -> Fixture {
    let options = ServerOptions::default()
        .with("MUSTER_REGISTRATION", "open")
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "muster@example.com");
    Fixture::on(TestDir::new(), database, options).await
}

async fn register(api: &Api, email: &str) -> ApiResponse {
    let body = json!({"email": email, "password": PASSWORD, "tenant_name": "Example Ltd"});
    api.with_key("").post("/api/auth/register", body).await
}

async fn verify(api: &Api, registration: &str, code: &str) -> ApiResponse {
    let body = json!({"registration_id": registration, "code": code});
    api.with_key("").post("/api/auth/register/verify", body).await
}

/// Another code than this one.
fn wrong(code: &str) -> String {
    format!("{}{}", if code.starts_with('0') { "1" } else { "0" }, &code[1..])
}

async fn person_registers(fixture: Fixture, sink: SmtpSink) {
    let (api, email) = (&fixture.api, "bob@example.com");
    let open = register(api, " Bob@Example.com ").await.expect(202);
    let id = open.text("registration_id");
    // Until the address is verified there is no account.
    sign_in(api, email, PASSWORD).await.expect_problem(401, "wrong_sign_in");
    let code = sink.mail(email, 1).await.secret().to_owned();
    assert!(!fixture.server.log().contains(&code), "the log shows the code");
    for bad in ["", "12345", &wrong(&code), "１２３４５６"] {
        verify(api, id, bad).await.expect_problem(401, "invalid_code");
    }
    let other = register(api, "eve@example.com").await.expect(202);
    verify(api, other.text("registration_id"), &code).await.expect_problem(401, "invalid_code");
    let made = verify(api, id, &code).await.expect(201);
    assert_eq!((made.text("role"), made.text("tenant_name")), ("owner", "Example Ltd"));
    verify(api, id, &code).await.expect_problem(401, "invalid_code");

    let signed = sign_in(api, email, PASSWORD).await.expect(200);
    let bob = Person::of(api, email, &signed);
    // A tenant of its own, without rights over the server or what others have.
    assert_eq!(
        bob.api.get("/api/members").await.expect(200)["items"].as_array().map(Vec::len),
        Some(1)
    );
    bob.api.get("/api/tenants").await.expect_problem(403, "missing_scope");
    let log = bob.api.get("/api/audit").await.expect(200);
    for action in ["tenant.create", "member.create"] {
        let entries = log["items"].as_array().expect("items").iter();
        let entry = entries.clone().find(|entry| entry["action"] == action).expect(action);
        assert_eq!(
            (&entry["actor_kind"], &entry["source"]),
            (&json!("member"), &json!("127.0.0.1"))
        );
    }
}

#[tokio::test]
async fn person_registers_with_a_code_by_mail_on_sqlite() {
    let sink = SmtpSink::start().await;
    person_registers(open(&sink, Database::Sqlite).await, sink).await;
}

#[tokio::test]
async fn person_registers_with_a_code_by_mail_on_postgres() {
    let sink = SmtpSink::start().await;
    let database = Database::Postgres(PostgresDatabase::empty());
    person_registers(open(&sink, database).await, sink).await;
}

#[tokio::test]
async fn known_address_gets_the_same_answer_and_a_notice() {
    let sink = SmtpSink::start().await;
    let fixture = open(&sink, Database::Sqlite).await;
    let owner = fixture.owner().await;
    let known = register(&fixture.api, &owner.email).await;
    let unknown = register(&fixture.api, "bob@example.com").await;
    let shape = |answer: &ApiResponse| {
        let fields: Vec<String> =
            answer.json().as_object().expect("an object").keys().cloned().collect();
        (answer.status, fields)
    };
    assert_eq!(shape(&known), shape(&unknown));
    let mail = sink.mail(&owner.email, 1).await;
    assert!(mail.text.contains("account with this address already"), "{}", mail.text);
    let id = known.json().text("registration_id").to_owned();
    verify(&fixture.api, &id, "000000").await.expect_problem(401, "invalid_code");
    // Nor does another code, or a registration that never was, say more.
    for id in [id, uuid::Uuid::now_v7().to_string()] {
        let body = json!({"registration_id": id});
        let api = fixture.api.with_key("");
        api.post("/api/auth/register/resend", body).await.expect(202);
    }
    sink.mail("bob@example.com", 1).await;
    assert_eq!(sink.received().len(), 2);
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn of_two_registrations_of_one_address_one_wins_on_sqlite() {
    let sink = SmtpSink::start().await;
    one_of_two_registrations_wins(open(&sink, Database::Sqlite).await, sink).await;
}

#[tokio::test]
async fn of_two_registrations_of_one_address_one_wins_on_postgres() {
    let sink = SmtpSink::start().await;
    let database = Database::Postgres(PostgresDatabase::empty());
    one_of_two_registrations_wins(open(&sink, database).await, sink).await;
}

async fn one_of_two_registrations_wins(fixture: Fixture, sink: SmtpSink) {
    let (api, email) = (&fixture.api, "bob@example.com");
    let (one, other) = tokio::join!(register(api, email), register(api, email));
    let ids = [one.expect(202), other.expect(202)];
    let ids = ids.each_ref().map(|open| open.text("registration_id"));
    let codes = [sink.mail(email, 1).await, sink.mail(email, 2).await];
    let codes = codes.each_ref().map(|mail| mail.secret());
    // Which code belongs to which is not known, so both are tried for both, at once.
    let tries = tokio::join!(
        verify(api, ids[0], codes[0]),
        verify(api, ids[0], codes[1]),
        verify(api, ids[1], codes[0]),
        verify(api, ids[1], codes[1]),
    );
    let tries = [tries.0, tries.1, tries.2, tries.3];
    assert_eq!(tries.iter().filter(|answer| answer.status == 201).count(), 1);
    for refused in tries.iter().filter(|answer| answer.status != 201) {
        assert_eq!((refused.status, refused.json()["code"].clone()), (401, json!("invalid_code")));
    }
    let count = "SELECT COUNT(*) FROM users WHERE email = 'bob@example.com'";
    assert_eq!(fixture.server.query(count), ["1"]);
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM registrations"), ["0"]);
}

#[tokio::test]
async fn code_is_tried_five_times_expires_and_is_replaced_by_the_next() {
    let sink = SmtpSink::start().await;
    let fixture = open(&sink, Database::Sqlite).await;
    let api = &fixture.api;
    let start = async |email: &'static str| {
        let open = register(api, email).await.expect(202);
        let code = sink.mail(email, 1).await.secret().to_owned();
        (open.text("registration_id").to_owned(), code)
    };
    let resend = async |id: &str| {
        let body = json!({"registration_id": id});
        api.with_key("").post("/api/auth/register/resend", body).await
    };
    let (id, code) = start("tried@example.com").await;
    for _ in 0..5 {
        verify(api, &id, &wrong(&code)).await.expect_problem(401, "invalid_code");
    }
    verify(api, &id, &code).await.expect_problem(401, "invalid_code");

    let (id, code) = start("late@example.com").await;
    let late = "UPDATE registrations SET expires_at = expires_at - 600001";
    fixture.server.query(late);
    verify(api, &id, &code).await.expect_problem(401, "invalid_code");
    resend(&id).await.expect(202);
    let next = sink.mail("late@example.com", 2).await.secret().to_owned();
    verify(api, &id, &next).await.expect(201);

    // A clock that was ahead.
    let (id, code) = start("ahead@example.com").await;
    fixture.server.query("UPDATE registrations SET expires_at = expires_at + 3600000");
    verify(api, &id, &code).await.expect_problem(401, "invalid_code");
    // One more for each source and account is refused: three a minute.
    for _ in 0..3 {
        resend(&id).await;
    }
    resend(&id).await.expect_problem(429, "too_many_attempts");
}

#[tokio::test]
async fn registration_is_closed_by_default_and_refuses_bad_fields_when_open() {
    let fixture = Fixture::on_sqlite().await;
    register(&fixture.api, "bob@example.com").await.expect_problem(403, "registration_closed");
    let sink = SmtpSink::start().await;
    let fixture = open(&sink, Database::Sqlite).await;
    for (field, value) in [
        ("email", "no address"),
        ("email", "a@b\r\nRCPT TO:<eve@example.com>"),
        ("password", "elevenchars"),
        ("name", " "),
        ("tenant_name", "\u{0}"),
    ] {
        let mut body = json!({"email": "bob@example.com", "password": PASSWORD});
        body[field] = json!(value);
        let refused = fixture.api.with_key("").post("/api/auth/register", body).await;
        let problem: Value = refused.expect_problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM mails"), ["0"]);
}

#[tokio::test]
async fn registrations_of_an_account_and_from_an_address_are_limited() {
    let sink = SmtpSink::start().await;
    let fixture = open(&sink, Database::Sqlite).await;
    let answers = (0..8).map(|_| register(&fixture.api, "bob@example.com"));
    let answers = futures_util::future::join_all(answers).await;
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!((2..=3).contains(&refused), "{refused}");
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one");
    assert_eq!(refused.json()["code"], "too_many_attempts");
    assert_eq!(refused.header("ratelimit-limit"), "5");
}

#[tokio::test]
async fn person_registers_and_resets_the_password_at_the_command_line() {
    let sink = SmtpSink::start().await;
    let fixture = open(&sink, Database::Sqlite).await;
    let (cli, url) = (Cli::new(&fixture.test_dir), fixture.server.url());
    let (server, email) = (["--server", url.as_str()], "bob@example.com");
    let run = async |args: &[&str], input: &str| {
        cli.run_with_input(&[&server[..], args].concat(), input).await
    };
    let short = run(&["register", "--email", email], "short\n").await;
    short.expect(1);
    assert!(short.stderr.contains("the password must be at least 12"), "{}", short.stderr);
    let open =
        run(&["register", "--email", email, "--json"], &format!("{PASSWORD}\n")).await.json();
    let code = sink.mail(email, 1).await.secret().to_owned();
    let id = open.text("registration_id");
    run(&["verify-email", id], &format!("{}\n", wrong(&code))).await.expect(1);
    run(&["verify-email", id], &format!("{code}\n")).await.expect(0);
    run(&["login", "--email", email], &format!("{PASSWORD}\n")).await.expect(0);

    run(&["reset-password", "--email", email], "").await.expect(0);
    let token = sink.mail(email, 2).await.secret().to_owned();
    let complete = ["reset-password", "--complete"];
    run(&complete, &format!("{token}\ntired giraffe on a bus\n")).await.expect(0);
    // The sessions have ended.
    cli.run(&["whoami"]).await.expect(1);
    run(&["login", "--email", email], "tired giraffe on a bus\n").await.expect(0);
    let changed = ["account", "change-password"];
    cli.run_with_input(&changed, &format!("tired giraffe on a bus\n{PASSWORD}\n")).await.expect(0);
    let notice = sink.mail(email, 4).await;
    assert!(notice.text.contains("was changed"), "{}", notice.text);
    cli.run(&["account", "change-email", "robert@example.com"]).await.expect(0);
    let code = sink.mail("robert@example.com", 1).await.secret().to_owned();
    cli.run_with_input(&["account", "verify-email"], &code).await.expect(0);
    let me = cli.run(&["whoami", "--json"]).await.json();
    assert!(me.to_string().contains("robert@example.com"), "{me}");
}
