//! Facts that hosts report: what is stored of them, and which targets they match.

use muster_protocol::facts::{FactError, FactReport, FactValue};
use muster_server::domain::fleet::reported_facts::ReportedFacts;
use muster_server::domain::fleet::target::Target;
use muster_server::domain::ids::TenantId;
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::queries::Deletion;
use muster_server::store::writer::{OpenedSession, RecordFacts};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    facts_replace_those_before_and_an_unchanged_report_writes_nothing,
    targets_by_facts_match_agents_of_their_tenant_only,
    facts_of_a_replaced_session_are_refused_and_those_of_a_deleted_agent_are_gone,
);

impl Fixture {
    async fn record_facts(
        &self,
        session: &OpenedSession,
        facts: &[(&str, &[&str])],
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let value = |texts: &[&str]| FactValue::of(texts.iter().map(|it| (*it).into()).collect());
        let facts = facts.iter().map(|(name, texts)| ((*name).to_owned(), value(texts)));
        let errors = error.map(|error| FactError { source: "x".into(), error: error.into() });
        let report = FactReport { facts: facts.collect(), errors: errors.into_iter().collect() };
        let operation = RecordFacts {
            tenant_id: self.tenant_id,
            agent_id: session.agent_id,
            epoch: session.epoch,
            reported: ReportedFacts::accept(report),
            now,
        };
        self.store.writer().commit(operation).await
    }
}

async fn facts_replace_those_before_and_an_unchanged_report_writes_nothing(fixture: Fixture) {
    let session = fixture.agent("one").await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert_eq!(tenant.agent_facts(session.agent_id).await.expect("read"), None);
    let first: &[(&str, &[&str])] = &[("role", &["db"]), ("zone", &["eu"]), ("ip", &["1", "2"])];
    let second: &[(&str, &[&str])] = &[("role", &["web"]), ("ip", &["1", "2"])];
    let later = Timestamp(NOW.0 + 1_000);
    for (facts, error, now, is_new) in [
        (first, None, NOW, true),
        (first, None, later, false),
        (first, Some("slow"), later, true),
        (second, None, later, true),
        (&[], None, later, true),
        (first, None, NOW, true),
    ] {
        let changed = fixture.record_facts(&session, facts, error, now).await.expect("stored");
        assert_eq!(changed, is_new);
        let known = tenant.agent_facts(session.agent_id).await.expect("read").expect("a report");
        let shown: Vec<_> =
            known.facts.iter().map(|(name, it)| (name.as_str(), it.len())).collect();
        let mut expected: Vec<_> = facts.iter().map(|(name, it)| (*name, it.len())).collect();
        expected.sort_unstable();
        assert_eq!(shown, expected);
        assert_eq!(known.errors.first().map(|it| it.error.as_str()), error);
        assert_eq!(known.changed_at, if is_new { now } else { NOW });
    }
    let names = tenant.fact_names(2).await.expect("read");
    assert_eq!(names, [("ip".to_owned(), 1), ("role".to_owned(), 1)]);
}

async fn targets_by_facts_match_agents_of_their_tenant_only(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    fixture.agent("three").await;
    for (session, role) in [(&one, "db"), (&two, "web")] {
        let facts: &[(&str, &[&str])] = &[("role", &[role]), ("ip", &["10.0.0.1", "10.1.0.1"])];
        fixture.record_facts(session, facts, None, NOW).await.expect("stored");
    }
    let tenant = fixture.store.tenant(fixture.tenant_id);
    for (text, names) in [
        ("fact:role=db", vec!["one"]),
        ("fact:role=*", vec!["one", "two"]),
        ("fact:role!=db", vec!["two", "three"]),
        ("fact:ip=10.1.* & !fact:role=web", vec!["one"]),
        ("fact:zone=*", vec![]),
    ] {
        let target = Target::Expression(text.parse().expect("an expression"));
        let chosen = tenant.resolve(&target, |_| true).await.expect("resolve").agents;
        let found: Vec<_> = chosen.into_iter().map(|facts| facts.name).collect();
        assert_eq!(found, names, "{text}");
        let stranger = fixture.store.tenant(TenantId::new());
        let chosen = stranger.resolve(&target, |_| true).await.expect("resolve");
        assert!(chosen.agents.is_empty(), "{text}");
        // The same for agents that are looked up by their ids, as for calendars and groups.
        let ids = [one.agent_id, two.agent_id];
        let known = tenant.known_agents(ids, &target.fact_names(), |_| true).await.expect("read");
        let found: Vec<_> =
            known.iter().filter(|it| target.matches(it)).map(|it| &it.name).collect();
        let names: Vec<_> = names.iter().filter(|name| **name != "three").collect();
        assert_eq!(found, names, "{text}");
    }
    let stranger = fixture.store.tenant(TenantId::new());
    assert_eq!(stranger.agent_facts(one.agent_id).await.expect("read"), None);
    assert!(stranger.fact_names(9).await.expect("read").is_empty());
    let names = ["role".to_owned()].into();
    assert!(stranger.host_facts(&names, Some(&[one.agent_id])).await.expect("read").is_empty());
}

async fn facts_of_a_replaced_session_are_refused_and_those_of_a_deleted_agent_are_gone(
    fixture: Fixture,
) {
    let session = fixture.agent("one").await;
    let facts: &[(&str, &[&str])] = &[("role", &["db"])];
    fixture.record_facts(&session, facts, None, NOW).await.expect("stored");
    let older = OpenedSession { epoch: session.epoch - 1, ..session.clone() };
    let refused = fixture.record_facts(&older, &[], None, NOW).await;
    assert!(refused.is_err(), "an older session must not write");
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let known = tenant.agent_facts(session.agent_id).await.expect("read").expect("a report");
    assert_eq!(known.facts.len(), 1);
    let deleted =
        tenant.delete_agent(session.agent_id, Deletion::Operator, NOW, audit(fixture.tenant_id));
    assert!(deleted.await.expect("deleted").is_some());
    assert_eq!(tenant.agent_facts(session.agent_id).await.expect("read"), None);
    assert!(tenant.fact_names(9).await.expect("read").is_empty());
}
