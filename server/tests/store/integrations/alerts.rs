//! Alert rules, their checks and their alerts; notices of keys that expire.

use muster_server::domain::ids::{AlertRuleId, IntegrationId, PrincipalId, TenantId};
use muster_server::domain::integrations::alert::{AlertEndReason, AlertMetric};
use muster_server::domain::integrations::event_type::EventType;
use muster_server::domain::page::PageRequest;
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::integrations::{alert, alert_rule};
use muster_server::store::queries::{AlertCheck, AlertFilter, AlertReset, OpenedAlert};
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    of_two_checks_at_once_one_opens_an_alert_and_sends_it,
    a_subject_has_one_open_alert_of_a_rule_in_the_database,
    a_check_of_a_changed_or_disabled_rule_changes_nothing,
    disabling_and_deleting_a_rule_resolve_its_alerts_once,
    rules_are_due_at_their_time_and_those_that_count_agents_on_request,
    a_tenant_sees_no_alerts_of_another,
    the_tenant_whose_rule_waits_longest_is_first,
    a_rule_keeps_its_newest_resolved_alerts,
    a_key_is_reported_once_for_each_expiry,
);

const PAGE: PageRequest = PageRequest { after: None, limit: 100 };
const DAY_MS: u64 = 86_400_000;

impl Fixture {
    async fn alert_rule(&self, name: &str, metric: AlertMetric) -> alert_rule::Model {
        let row = alert_rule::Model {
            id: AlertRuleId::new(),
            tenant_id: self.tenant_id,
            name: name.into(),
            metric,
            threshold: 1.0,
            clear_threshold: 1.0,
            for_ms: 0,
            clear_for_ms: 0,
            target: r#"{"expression":"all"}"#.into(),
            is_enabled: true,
            silenced_until: None,
            created_by: PrincipalId(Uuid::nil()),
            created_at: NOW,
            changed_at: NOW,
            checked_at: NOW,
            check_at: Some(NOW),
        };
        let tenant = self.store.tenant(self.tenant_id);
        let created = tenant.create_alert_rule(row.clone(), 30, audit(self.tenant_id)).await;
        created.expect("created");
        row
    }

    async fn stored_rule(&self, id: AlertRuleId) -> alert_rule::Model {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.alert_rule(id).await.expect("read").expect("the rule")
    }

    async fn alerts(&self) -> Vec<alert::Model> {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.alerts(AlertFilter::default(), PAGE).await.expect("read")
    }

    async fn check(&self, check: AlertCheck) -> bool {
        self.store.system().store_alert_check(check).await.expect("store").is_some()
    }

    /// The types of the messages of an integration, oldest first.
    pub async fn sent(&self, id: IntegrationId) -> Vec<String> {
        let tenant = self.store.tenant(self.tenant_id);
        let rows = tenant.integration_messages(id, None, PAGE).await.expect("read");
        rows.into_iter().rev().map(|row| row.event).collect()
    }
}

/// A check that opens an alert of the rule itself.
fn opening(rule: &alert_rule::Model, now: Timestamp) -> AlertCheck {
    AlertCheck {
        rule: rule.clone(),
        now,
        check_at: now.plus_ms(1_000),
        since: vec![(rule.id.0, Some(now))],
        opened: vec![OpenedAlert { subject_id: rule.id.0, agent_id: None, value: 0.0 }],
        resolved: vec![],
    }
}

async fn of_two_checks_at_once_one_opens_an_alert_and_sends_it(fixture: Fixture) {
    let sent = fixture.integration(&[EventType::AlertOpened, EventType::AlertResolved]).await;
    let rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    let now = NOW.plus_ms(1);
    let system = fixture.store.system();
    let (one, other) = tokio::join!(
        system.store_alert_check(opening(&rule, now)),
        system.store_alert_check(opening(&rule, now)),
    );
    let stored = [one.expect("store"), other.expect("store")];
    assert_eq!(stored.iter().flatten().count(), 1, "{stored:?}");
    let alerts = fixture.alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(fixture.sent(sent).await, ["alert.opened"]);
    let rule = fixture.stored_rule(rule.id).await;
    let subjects = fixture.store.tenant(fixture.tenant_id).alert_subjects(rule.id).await;
    let subjects = subjects.expect("read");
    assert_eq!(subjects.since.get(&rule.id.0), Some(&now));
    let resolving = AlertCheck {
        since: vec![(rule.id.0, None)],
        opened: vec![],
        resolved: vec![(subjects.open[&rule.id.0], AlertEndReason::Cleared)],
        ..opening(&rule, now.plus_ms(1))
    };
    assert!(fixture.check(resolving.clone()).await);
    assert!(!fixture.check(resolving).await, "it was checked meanwhile");
    let alerts = fixture.alerts().await;
    assert_eq!(alerts[0].end_reason, Some(AlertEndReason::Cleared));
    assert_eq!(alerts[0].resolved_at, Some(now.plus_ms(1)));
    assert_eq!(fixture.sent(sent).await, ["alert.opened", "alert.resolved"]);
    let subjects = fixture.store.tenant(fixture.tenant_id).alert_subjects(rule.id).await;
    let subjects = subjects.expect("read");
    assert!(subjects.since.is_empty() && subjects.open.is_empty(), "{subjects:?}");
}

async fn a_subject_has_one_open_alert_of_a_rule_in_the_database(fixture: Fixture) {
    let rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    assert!(fixture.check(opening(&rule, NOW.plus_ms(1))).await);
    let again = "INSERT INTO alerts (id, tenant_id, rule_id, rule_name, subject_id, metric, threshold, \
        value, opened_at) SELECT tenant_id, tenant_id, rule_id, rule_name, subject_id, metric, \
        threshold, value, opened_at FROM alerts";
    let refused = fixture.rows().await.execute_unprepared(again).await.expect_err("refused");
    assert!(refused.to_string().to_lowercase().contains("unique"), "{refused}");
}

async fn a_check_of_a_changed_or_disabled_rule_changes_nothing(fixture: Fixture) {
    let rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    let renamed =
        alert_rule::Model { name: "other".into(), changed_at: NOW.plus_ms(1), ..rule.clone() };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let change = async |row: &alert_rule::Model, was| {
        let audit = audit(fixture.tenant_id);
        let changed = tenant.change_alert_rule(row.clone(), was, AlertReset::Nothing, audit).await;
        changed.expect("change").is_some()
    };
    assert!(change(&renamed, NOW).await);
    assert!(!change(&renamed, NOW).await, "it was changed meanwhile");
    assert!(!fixture.check(opening(&rule, NOW.plus_ms(2))).await);
    let disabled = alert_rule::Model {
        is_enabled: false,
        check_at: None,
        changed_at: NOW.plus_ms(2),
        ..renamed.clone()
    };
    assert!(change(&disabled, NOW.plus_ms(1)).await);
    assert!(!fixture.check(opening(&disabled, NOW.plus_ms(3))).await);
    assert_eq!(fixture.alerts().await, []);
    assert_eq!(fixture.store.system().next_alert_check().await.expect("read"), None);
}

async fn disabling_and_deleting_a_rule_resolve_its_alerts_once(fixture: Fixture) {
    let sent = fixture.integration(&[EventType::AlertOpened, EventType::AlertResolved]).await;
    let rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    assert!(fixture.check(opening(&rule, NOW.plus_ms(1))).await);
    let rule = fixture.stored_rule(rule.id).await;
    let disabled = alert_rule::Model {
        is_enabled: false,
        check_at: None,
        changed_at: NOW.plus_ms(2),
        ..rule.clone()
    };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let entry = || audit(fixture.tenant_id);
    let changed = tenant.change_alert_rule(disabled, NOW, AlertReset::Alerts, entry()).await;
    assert_eq!(changed.expect("change").expect("the rule").len(), 1);
    let alerts = fixture.alerts().await;
    assert_eq!(alerts[0].end_reason, Some(AlertEndReason::RuleChanged));
    assert_eq!(fixture.sent(sent).await, ["alert.opened", "alert.resolved"]);
    let subjects = tenant.alert_subjects(rule.id).await.expect("read");
    assert!(subjects.since.is_empty(), "{subjects:?}");
    assert_eq!(tenant.delete_alert_rule(rule.id, entry()).await.expect("delete"), Some(vec![]));
    assert_eq!(tenant.delete_alert_rule(rule.id, entry()).await.expect("delete"), None);
    assert_eq!(fixture.alerts().await, []);
    assert_eq!(fixture.sent(sent).await.len(), 2, "it was resolved before");
}

async fn rules_are_due_at_their_time_and_those_that_count_agents_on_request(fixture: Fixture) {
    let disk = fixture.alert_rule("disk", AlertMetric::DiskPercent).await;
    let down = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    let system = fixture.store.system();
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let due = async |now: Timestamp, with_presence: bool| {
        let changed_at = with_presence.then_some(now);
        let due = tenant.due_alert_rules(now, changed_at, 10).await.expect("read");
        let tenants = system.tenants_with_due_alert_rules(now, changed_at).await.expect("read");
        assert_eq!(tenants, if due.is_empty() { vec![] } else { vec![fixture.tenant_id] });
        due.into_iter().map(|rule| rule.id).collect::<Vec<_>>()
    };
    assert_eq!(due(NOW, false).await, [disk.id, down.id]);
    for rule in [&disk, &down] {
        let quiet = AlertCheck { opened: vec![], ..opening(rule, NOW.plus_ms(1)) };
        assert!(fixture.check(quiet).await);
    }
    assert_eq!(due(NOW.plus_ms(1_000), false).await, []);
    assert_eq!(due(NOW.plus_ms(1_000), true).await, [down.id]);
    assert_eq!(due(NOW.plus_ms(1), true).await, [], "this round has checked it");
    // The clock was set back by an hour.
    let due_again = due(NOW.minus_ms(3_600_000), false).await;
    assert_eq!(due_again.len(), 2, "{due_again:?}");
    assert_eq!(due(NOW.plus_ms(1_001), false).await.len(), 2);
    assert_eq!(system.next_alert_check().await.expect("read"), Some(NOW.plus_ms(1_001)));
}

async fn a_tenant_sees_no_alerts_of_another(fixture: Fixture) {
    let rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    assert!(fixture.check(opening(&rule, NOW.plus_ms(1))).await);
    let id = TenantId::new();
    let other = fixture.store.tenant(id);
    assert_eq!(other.alert_rules(PAGE).await.expect("read"), []);
    let due = other.due_alert_rules(NOW.plus_ms(10_000), None, 10).await.expect("read");
    assert_eq!(due, []);
    assert_eq!(other.alert_rule(rule.id).await.expect("read"), None);
    assert_eq!(other.alerts(AlertFilter::default(), PAGE).await.expect("read"), []);
    assert!(other.alert_subjects(rule.id).await.expect("read").open.is_empty());
    let deleted = other.delete_alert_rule(rule.id, audit(fixture.tenant_id)).await;
    assert_eq!(deleted.expect("delete"), None);
    let taken = alert_rule::Model { tenant_id: id, ..fixture.stored_rule(rule.id).await };
    let entry = audit(fixture.tenant_id);
    let changed = other.change_alert_rule(taken, NOW, AlertReset::Alerts, entry).await;
    assert_eq!(changed.expect("change"), None);
    assert_eq!(fixture.alerts().await.len(), 1);
}

async fn the_tenant_whose_rule_waits_longest_is_first(fixture: Fixture) {
    let other_id = TenantId::new();
    let other = fixture.store.tenant(other_id);
    let busy = fixture.alert_rule("busy", AlertMetric::DiskPercent).await;
    for number in 0..20 {
        fixture.alert_rule(&format!("busy {number}"), AlertMetric::DiskPercent).await;
    }
    let late = alert_rule::Model {
        id: AlertRuleId::new(),
        tenant_id: other_id,
        check_at: Some(NOW.plus_ms(1)),
        ..busy
    };
    let created = other.create_alert_rule(late, 10, audit(other_id)).await;
    created.expect("created");
    let due = fixture.store.system().tenants_with_due_alert_rules(NOW.plus_ms(2), None).await;
    assert_eq!(due.expect("read"), [fixture.tenant_id, other_id], "each once");
}

async fn a_rule_keeps_its_newest_resolved_alerts(fixture: Fixture) {
    let mut rule = fixture.alert_rule("down", AlertMetric::AgentsOnline).await;
    let agents = |count: usize| (0..count).map(|_| Uuid::now_v7()).collect::<Vec<_>>();
    let mut oldest = None;
    for (round, count) in [1_000, 1_000, 3].into_iter().enumerate() {
        let now = NOW.plus_ms(1 + 2 * round as u64);
        let opened: Vec<_> = agents(count)
            .into_iter()
            .map(|subject_id| OpenedAlert { subject_id, agent_id: None, value: 0.0 })
            .collect();
        assert!(fixture.check(AlertCheck { since: vec![], opened, ..opening(&rule, now) }).await);
        rule = fixture.stored_rule(rule.id).await;
        let tenant = fixture.store.tenant(fixture.tenant_id);
        let open = tenant.alert_subjects(rule.id).await.expect("read").open;
        oldest = oldest.or_else(|| open.values().min().copied());
        let resolved = open.values().map(|id| (*id, AlertEndReason::Cleared)).collect();
        let ending = AlertCheck {
            since: vec![],
            opened: vec![],
            resolved,
            ..opening(&rule, now.plus_ms(1))
        };
        assert!(fixture.check(ending).await);
        rule = fixture.stored_rule(rule.id).await;
    }
    let everything = PageRequest { after: None, limit: 5_000 };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let kept = tenant.alerts(AlertFilter::default(), everything).await.expect("read");
    assert_eq!(kept.len(), 2_000);
    assert!(kept.iter().all(|alert| Some(alert.id) != oldest), "the oldest are dropped");
}

async fn a_key_is_reported_once_for_each_expiry(fixture: Fixture) {
    let sent = fixture.integration(&[EventType::KeyExpiring]).await;
    let system = fixture.store.system();
    let expires_at = NOW.plus_ms(30 * DAY_MS);
    let set = async |expires_at: Timestamp| {
        let sql = format!("UPDATE agent_keys SET expires_at = {}", expires_at.0);
        fixture.rows().await.execute_unprepared(&sql).await.expect("update");
    };
    let report =
        async |now: Timestamp| system.report_expiring_keys(now, 7 * DAY_MS).await.expect("report");
    assert_eq!(report(NOW).await, 0, "it does not expire");
    set(expires_at).await;
    assert_eq!(report(NOW.plus_ms(22 * DAY_MS)).await, 0, "more than a week before");
    let late = NOW.plus_ms(24 * DAY_MS);
    let (one, other) =
        tokio::join!(report(late), async { system.report_expiring_keys(late, 7 * DAY_MS).await });
    assert_eq!(one + other.expect("report"), 1, "two servers report it once");
    assert_eq!(report(late.plus_ms(1)).await, 0);
    set(expires_at.plus_ms(DAY_MS)).await;
    assert_eq!(report(late.plus_ms(DAY_MS)).await, 1, "another expiry");
    assert_eq!(fixture.sent(sent).await, ["key.expiring", "key.expiring"]);
    set(NOW.plus_ms(3 * DAY_MS)).await;
    assert_eq!(report(NOW.plus_ms(1)).await, 0, "it lives for three days only");
}
