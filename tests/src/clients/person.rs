//! A person who is signed in, as a program that holds the tokens.

use serde_json::{Value, json};

use crate::clients::api::{Api, ApiResponse};
use crate::fixture::Fixture;
use crate::json::JsonFields as _;
use crate::servers::smtp_sink::SmtpSink;

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery";

/// A person and the tokens of a session.
#[derive(Debug, Clone)]
pub struct Person {
    /// Calls with the access token.
    pub api: Api,
    pub refresh_token: String,
    pub session_id: String,
    pub member_id: String,
    pub email: String,
}

impl Person {
    /// The person of an answer to a sign-in.
    pub fn of(api: &Api, email: &str, answer: &Value) -> Self {
        Self {
            api: api.with_key(answer.text("access_token")),
            refresh_token: answer.text("refresh_token").to_owned(),
            session_id: answer.text("session_id").to_owned(),
            member_id: answer["member"].text("id").to_owned(),
            email: email.to_owned(),
        }
    }

    /// Invites a person to the tenant of this owner. Returns the token.
    pub async fn invite(&self, email: &str, role: &str) -> String {
        let body = json!({"email": email, "role": role});
        let made = self.api.post("/api/invitations", body).await.expect(201);
        made.text("token").to_owned()
    }

    /// Invites a person to the tenant of this owner, whose server sends mails to this sink. Returns the token.
    pub async fn invite_by_mail(&self, sink: &SmtpSink, email: &str, role: &str) -> String {
        let earlier = sink.received().iter().filter(|mail| mail.to == email).count();
        let body = json!({"email": email, "role": role});
        let made = self.api.post("/api/invitations", body).await.expect(201);
        assert!(made.get("token").is_none(), "the token is for the address alone: {made}");
        sink.mail(email, earlier + 1).await.secret().to_owned()
    }

    /// Invites a person who has no account, and signs that person in.
    pub async fn add(&self, email: &str, role: &str) -> Self {
        self.accepted(&self.invite(email, role).await, email).await
    }

    /// As a new person, with the token of an invitation.
    pub async fn accepted(&self, token: &str, email: &str) -> Self {
        let accept = self.api.with_key(token);
        accept.post("/api/invitations/accept", json!({"password": PASSWORD})).await.expect(201);
        let answer = sign_in(&self.api, email, PASSWORD).await.expect(200);
        Self::of(&self.api, email, &answer)
    }
}

/// One sign-in.
pub async fn sign_in(api: &Api, email: &str, password: &str) -> ApiResponse {
    let body = json!({"email": email, "password": password});
    api.with_key("").post("/api/auth/login", body).await
}

impl Fixture {
    /// Makes the first owner, and signs it in.
    pub async fn owner(&self) -> Person {
        let email = "ada@example.com";
        let token = std::fs::read_to_string(self.server.data_dir().join("setup_token"));
        let api = self.api.with_key(token.expect("the set-up token").trim());
        api.post("/api/setup", json!({"email": email, "password": PASSWORD})).await.expect(201);
        let answer = sign_in(&self.api, email, PASSWORD).await.expect(200);
        Person::of(&self.api, email, &answer)
    }
}
