//! People with each role, and one of another tenant.

use std::collections::BTreeMap;

use muster_tests::{Api, Fixture, JsonFields as _, PASSWORD, Person};
use reqwest::Method;
use serde_json::{Value, json};

use super::another_address;

/// The people of the matrix.
pub struct People {
    /// Invites the others.
    pub owner: Person,
    /// An owner of the other tenant.
    pub stranger: Person,
    /// The access tokens of people with a role.
    tokens: BTreeMap<String, String>,
}

/// A request from an address of its own, so that no limit on addresses counts.
async fn post(api: &Api, path: &str, body: Value, status: u16) -> Value {
    let (address, body) = (another_address(), Some(body.to_string().into_bytes()));
    let headers = [("x-forwarded-for", address.as_str())];
    let answer = api.try_send(Method::POST, path, &headers, body).await;
    answer.expect("reach the server").expect(status)
}

async fn sign_in(fixture: &Fixture, email: &str) -> Person {
    let (api, body) = (fixture.api.with_key(""), json!({"email": email, "password": PASSWORD}));
    let answer = post(&api, "/api/auth/login", body, 200).await;
    Person::of(&fixture.api, email, &answer)
}

async fn join(fixture: &Fixture, owner: &Person, email: &str, role: &str) {
    let token = owner.invite(email, role).await;
    let api = fixture.api.with_key(&token);
    post(&api, "/api/invitations/accept", json!({"password": PASSWORD}), 201).await;
}

impl People {
    /// The people, and the id of an open invitation.
    pub async fn new(fixture: &Fixture) -> (Self, String) {
        let owner = fixture.owner().await;
        for role in ["owner", "admin", "member", "auditor"] {
            join(fixture, &owner, &format!("{role}@example.com"), role).await;
        }
        join(fixture, &owner, "stranger@example.com", "owner").await;
        // No API makes the first person of another tenant yet.
        fixture.server.query(
            "UPDATE members SET tenant_id = (SELECT id FROM tenants WHERE name = 'other tenant') \
             WHERE user_id = (SELECT id FROM users WHERE email = 'stranger@example.com')",
        );
        let stranger = sign_in(fixture, "stranger@example.com").await;
        owner.invite("open@example.com", "member").await;
        let open = owner.api.get("/api/invitations").await.expect(200);
        let people = Self { owner, stranger, tokens: BTreeMap::new() };
        (people, open["items"][0].id().to_owned())
    }

    /// An access token of a person with this role.
    pub async fn token(&mut self, fixture: &Fixture, role: &str) -> String {
        if let Some(token) = self.tokens.get(role) {
            return token.clone();
        }
        let person = sign_in(fixture, &format!("{role}@example.com")).await;
        self.tokens.insert(role.to_owned(), person.api.key().to_owned());
        person.api.key().to_owned()
    }

    /// The person signs in again after an operation that ended its session.
    pub fn forget_ended(&mut self, path: &str, role: &str) {
        if path == "/api/auth/logout" {
            self.tokens.remove(role);
        }
    }
}
