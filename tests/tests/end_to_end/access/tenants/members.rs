//! Owners invite people, change their roles and remove them.

use muster_tests::{Fixture, JsonFields as _, PASSWORD, Person, on_both_databases, sign_in};
use serde_json::{Value, json};

on_both_databases!(
    invitation_makes_one_member_with_a_new_or_an_existing_account,
    lowered_role_ends_what_the_member_had,
    tenant_always_has_an_owner,
    dangerous_changes_need_the_password_of_the_last_fifteen_minutes,
);

const OLD: &str = "UPDATE user_sessions SET confirmed_at = confirmed_at - 901000";

async fn accept(person: &Person, token: &str, password: &str) -> muster_tests::ApiResponse {
    let api = person.api.with_key(token);
    api.post("/api/invitations/accept", json!({"password": password, "name": "A name"})).await
}

async fn set_role(owner: &Person, id: &str, role: &str) -> muster_tests::ApiResponse {
    owner.api.patch(&format!("/api/members/{id}"), json!({"role": role})).await
}

async fn emails(owner: &Person) -> Vec<(String, String)> {
    let list = owner.api.get("/api/members").await.expect(200);
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| (item.text("email").to_owned(), item.text("role").to_owned())).collect()
}

async fn invitation_makes_one_member_with_a_new_or_an_existing_account(fixture: Fixture) {
    let other_tenant = fixture.other_tenant().await;
    let owner = fixture.owner().await;
    let token = owner.invite("Bob@Example.com", "member").await;
    let open = owner.api.get("/api/invitations").await.expect(200);
    assert_eq!(open["items"][0]["email"], "bob@example.com");
    assert!(!open.to_string().contains("mst_invite_"), "{open}");
    let none = other_tenant.get("/api/invitations").await.expect(200);
    assert_eq!(none["items"], json!([]));
    for wrong in ["", &token[..token.len() - 1], fixture.api.key(), owner.api.key()] {
        accept(&owner, wrong, PASSWORD).await.expect_problem(401, "invalid_invitation");
    }
    owner.api.with_key(&token).get("/api/agents").await.expect_problem(401, "invalid_api_key");
    accept(&owner, &token, "short").await.expect_problem(422, "invalid_field");
    let (one, two) =
        tokio::join!(accept(&owner, &token, PASSWORD), accept(&owner, &token, PASSWORD));
    let (made, refused) = if one.status == 201 { (one, two) } else { (two, one) };
    let made = made.expect(201);
    assert_eq!((made.text("email"), made.text("role")), ("bob@example.com", "member"));
    refused.expect(401);
    accept(&owner, &token, PASSWORD).await.expect_problem(401, "invalid_invitation");

    // A person with an account proves its password.
    let again = owner.invite("bob@example.com", "admin").await;
    accept(&owner, &again, "wrong horse battery").await.expect_problem(401, "wrong_sign_in");
    accept(&owner, &again, PASSWORD).await.expect_problem(409, "already_member");
    let id = made.id();
    owner.api.delete(&format!("/api/members/{id}")).await.expect(204);
    // An invitation from before does not bring a removed member back, and a new one replaces it.
    accept(&owner, &again, PASSWORD).await.expect_problem(401, "invalid_invitation");
    let replaced = owner.invite("bob@example.com", "owner").await;
    let newest = owner.invite("bob@example.com", "admin").await;
    accept(&owner, &replaced, PASSWORD).await.expect_problem(401, "invalid_invitation");
    let new = accept(&owner, &newest, PASSWORD).await.expect(201);
    assert_ne!(new.id(), id);
    assert_eq!(emails(&owner).await[1], ("bob@example.com".into(), "admin".into()));

    let withdrawn = owner.invite("eve@example.com", "auditor").await;
    let open = owner.api.get("/api/invitations").await.expect(200);
    let path = format!("/api/invitations/{}", open["items"][0].id());
    other_tenant.delete(&path).await.expect_problem(403, "session_required");
    owner.api.delete(&path).await.expect(204);
    owner.api.delete(&path).await.expect_problem(404, "not_found");
    accept(&owner, &withdrawn, PASSWORD).await.expect_problem(401, "invalid_invitation");
    let expired = owner.invite("eve@example.com", "auditor").await;
    fixture.server.query("UPDATE invitations SET expires_at = 1 WHERE ended_at IS NULL");
    accept(&owner, &expired, PASSWORD).await.expect_problem(401, "invalid_invitation");
    for entry in fixture.api.get("/api/audit").await.expect(200)["items"].as_array().expect("items")
    {
        assert!(!entry.to_string().contains(PASSWORD), "{entry}");
    }
}

async fn lowered_role_ends_what_the_member_had(fixture: Fixture) {
    let owner = fixture.owner().await;
    let bob = owner.add("bob@example.com", "owner").await;
    let key =
        bob.api.post("/api/keys", json!({"name": "of bob", "role": "owner"})).await.expect(201);
    let of_bob = fixture.api.with_key(key.text("key"));
    let child = of_bob.post("/api/keys", json!({"name": "child"})).await.expect(201);
    let child = fixture.api.with_key(child.text("key"));
    let invitation = bob.invite("eve@example.com", "owner").await;
    child.get("/api/agents").await.expect(200);

    let lowered = set_role(&owner, &bob.member_id, "member").await.expect(200);
    assert_eq!(lowered["role"], "member");
    assert_ne!(lowered.id(), bob.member_id);
    bob.api.get("/api/agents").await.expect_problem(401, "session_ended");
    for ended in [&of_bob, &child] {
        ended.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    }
    accept(&owner, &invitation, PASSWORD).await.expect_problem(401, "invalid_invitation");
    let body = json!({"refresh_token": bob.refresh_token});
    let refused = fixture.api.with_key("").post("/api/auth/refresh", body).await;
    refused.expect_problem(401, "invalid_refresh_token");

    // A raised role keeps the session.
    let answer = sign_in(&fixture.api, &bob.email, PASSWORD).await.expect(200);
    let bob = Person::of(&fixture.api, &bob.email, &answer);
    bob.api.get("/api/keys").await.expect_problem(403, "missing_scope");
    let raised = set_role(&owner, &bob.member_id, "admin").await.expect(200);
    assert_eq!(raised.id(), bob.member_id);
    bob.api.get("/api/keys").await.expect(200);
    // An admin manages no members, and everybody may leave.
    set_role(&bob, &bob.member_id, "owner").await.expect_problem(403, "missing_scope");
    let path = format!("/api/members/{}", owner.member_id);
    bob.api.delete(&path).await.expect_problem(403, "missing_scope");
    bob.api.delete(&format!("/api/members/{}", bob.member_id)).await.expect(204);
    bob.api.get("/api/me").await.expect_problem(401, "session_ended");
    sign_in(&fixture.api, &bob.email, PASSWORD).await.expect_problem(401, "wrong_sign_in");
}

async fn tenant_always_has_an_owner(fixture: Fixture) {
    let owner = fixture.owner().await;
    let own = format!("/api/members/{}", owner.member_id);
    owner.api.delete(&own).await.expect_problem(409, "last_owner");
    set_role(&owner, &owner.member_id, "admin").await.expect_problem(409, "last_owner");
    let bob = owner.add("bob@example.com", "owner").await;
    // Each lowers the other at once. One of them is an owner afterwards.
    let (one, two) = tokio::join!(
        set_role(&owner, &bob.member_id, "auditor"),
        set_role(&bob, &owner.member_id, "auditor"),
    );
    let statuses = [one.status, two.status];
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 401 | 403 | 409)), "{statuses:?}");
    let owners = "SELECT COUNT(*) FROM members WHERE role = 'owner' AND removed_at IS NULL";
    assert_eq!(fixture.server.query(owners), ["1"]);
}

async fn dangerous_changes_need_the_password_of_the_last_fifteen_minutes(fixture: Fixture) {
    let other_tenant = fixture.other_tenant().await;
    let owner = fixture.owner().await;
    let bob = owner.add("bob@example.com", "member").await;
    let path = format!("/api/members/{}", bob.member_id);
    let body = json!({"email": "eve@example.com", "role": "owner"});
    fixture.server.query(OLD);
    for answer in [
        owner.api.patch(&path, json!({"role": "admin"})).await,
        owner.api.delete(&path).await,
        owner.api.post("/api/invitations", body.clone()).await,
    ] {
        answer.expect_problem(403, "confirmation_required");
    }
    let confirm = async |password: &str| {
        owner.api.post("/api/auth/confirm", json!({"password": password})).await
    };
    confirm("wrong horse battery").await.expect_problem(403, "wrong_password");
    owner.api.delete(&path).await.expect_problem(403, "confirmation_required");
    confirm(PASSWORD).await.expect(200);
    // A refresh proves nothing.
    fixture.server.query(OLD);
    let refresh = json!({"refresh_token": owner.refresh_token});
    let next = fixture.api.with_key("").post("/api/auth/refresh", refresh).await.expect(200);
    let next = owner.api.with_key(next.text("access_token"));
    next.delete(&path).await.expect_problem(403, "confirmation_required");
    confirm(PASSWORD).await.expect(200);
    next.patch(&path, json!({"role": "admin"})).await.expect(200);
    // A key has no password, and another tenant sees no member.
    for answer in
        [fixture.api.delete(&path).await, fixture.api.post("/api/invitations", body).await]
    {
        answer.expect_problem(403, "session_required");
    }
    let seen = other_tenant.get("/api/members").await.expect(200);
    assert_eq!(seen["items"], json!([]));
    let failed: Vec<Value> = fixture.api.get("/api/audit").await.expect(200)["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|entry| entry["action"] == "session.refuse")
        .cloned()
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["actor_id"], owner.member_id.as_str());
}

#[tokio::test]
async fn person_in_two_tenants_switches_between_them() {
    let fixture = Fixture::on_sqlite().await;
    fixture.other_tenant().await;
    let owner = fixture.owner().await;
    // The second tenant has no owner yet: it gets the same person.
    let insert = "INSERT INTO members (id, tenant_id, user_id, role, created_at, is_from_setup) SELECT \
                  randomblob(16), tenants.id, users.id, 'auditor', 1, 0 FROM tenants, users \
                  WHERE tenants.name = 'other tenant'";
    fixture.server.query(insert);
    let me = owner.api.get("/api/me").await.expect(200);
    let memberships = me["memberships"].as_array().expect("memberships").clone();
    assert_eq!(memberships.len(), 2, "{me}");
    let there = memberships.iter().find(|one| one["tenant_name"] == "other tenant");
    let there = there.expect("the other tenant");
    let switch = async |api: &muster_tests::Api, tenant: &str| {
        api.post("/api/auth/switch", json!({"tenant_id": tenant})).await
    };
    let unknown = uuid::Uuid::now_v7().to_string();
    switch(&owner.api, &unknown).await.expect_problem(404, "not_found");
    let moved = switch(&owner.api, there.text("tenant_id")).await.expect(200);
    assert_eq!(
        (&moved["member"]["id"], &moved["member"]["role"]),
        (&there["id"], &json!("auditor"))
    );
    owner.api.get("/api/me").await.expect_problem(401, "session_ended");
    let moved = owner.api.with_key(moved.text("access_token"));
    let audit = moved.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains("session.create") && !audit.contains(&owner.member_id), "{audit}");
    moved.post("/api/agents/keys", json!({"name": "k"})).await.expect_problem(403, "missing_scope");
    let chosen = json!({"email": owner.email, "password": PASSWORD,
        "tenant_id": there.text("tenant_id")});
    let answer = fixture.api.with_key("").post("/api/auth/login", chosen).await.expect(200);
    assert_eq!(answer["member"]["id"], there["id"]);
}
