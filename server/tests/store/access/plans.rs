//! Plans: what a tenant may have is checked where it is created, also if requests come at the same time.

use futures_util::future::join_all;
use muster_protocol::CloseCode;
use muster_protocol::frame::Outcome;
use muster_server::domain::access::tenants::plan::Plan;
use muster_server::domain::ids::{AgentKeyId, JobId, TenantId};
use muster_server::domain::page::PageRequest;
use muster_server::store::queries::{Deletion, TenantAudit, TenantChange, TenantRetention};
use muster_server::store::writer::{IndexHistory, OpenSession, SessionOpening};

use crate::fixture::{Fixture, NOW, audit};
use crate::fleet::sessions::opened;
use crate::on_both_databases;

on_both_databases!(
    starter_enrols_three_agents_even_if_twenty_come_at_once,
    known_agents_return_after_a_plan_was_lowered_and_new_ones_wait_for_room,
    history_of_a_lower_plan_is_dropped_and_that_of_others_stays,
    tenants_are_listed_counted_and_changed,
);

impl Fixture {
    /// Gives the fixture's tenant a plan.
    async fn plan(&self, plan: Plan) {
        let change = TenantChange { name: None, plan: Some(plan), ..TenantChange::default() };
        let audit = TenantAudit { requested: audit(self.tenant_id), in_tenant: None };
        let tenant = self.store.tenant(self.tenant_id);
        tenant.update_tenant(change, audit).await.expect("change").expect("the tenant");
    }

    /// A registration with a key for many agents.
    fn wide(&self, key_id: AgentKeyId, machine: &str) -> OpenSession {
        let secret_hash = key_id.0.as_bytes().to_vec();
        OpenSession { key_id, secret_hash, ..self.registration(machine) }
    }
}

async fn starter_enrols_three_agents_even_if_twenty_come_at_once(fixture: Fixture) {
    fixture.make_tenant().await;
    fixture.plan(Plan::Starter).await;
    // Two keys with room for all, so that only the plan is in the way.
    let keys = [AgentKeyId::new(), AgentKeyId::new()];
    for key in keys {
        fixture.make_key(fixture.tenant_id, key, 100).await;
    }
    let machines: Vec<_> = (0..20).map(|number| format!("host-{number}")).collect();
    let openings = machines.iter().enumerate().map(|(number, machine)| {
        let registration = fixture.wide(keys[number % 2], machine);
        fixture.open(registration)
    });
    let mut enrolled = 0;
    for opening in join_all(openings).await {
        match opening {
            SessionOpening::Opened(_) => enrolled += 1,
            SessionOpening::Refused(code) => assert_eq!(code, CloseCode::PlanLimit),
        }
    }
    assert_eq!(enrolled, 3);
    let page = PageRequest { after: None, limit: 100 };
    let agents = fixture.store.tenant(fixture.tenant_id).agents(page).await.expect("read");
    assert_eq!(agents.len(), 3);
}

async fn known_agents_return_after_a_plan_was_lowered_and_new_ones_wait_for_room(fixture: Fixture) {
    fixture.make_tenant().await;
    let key = AgentKeyId::new();
    fixture.make_key(fixture.tenant_id, key, 100).await;
    let mut agents = Vec::new();
    for machine in ["one", "two", "three", "four"] {
        agents.push(opened(fixture.open(fixture.wide(key, machine)).await).agent_id);
    }
    fixture.plan(Plan::Starter).await;
    let again = opened(fixture.open(fixture.wide(key, "four")).await);
    assert_eq!(again.agent_id, agents[3]);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    // With three left there is still no room.
    for deleted in [None, Some(agents[0]), Some(agents[1])] {
        if let Some(id) = deleted {
            let entry = audit(fixture.tenant_id);
            tenant.delete_agent(id, Deletion::Operator, NOW, entry).await.expect("delete");
        }
        let opening = fixture.open(fixture.wide(key, "five")).await;
        match deleted {
            Some(id) if id == agents[1] => assert!(!agents.contains(&opened(opening).agent_id)),
            _ => assert!(
                matches!(opening, SessionOpening::Refused(CloseCode::PlanLimit)),
                "{opening:?}"
            ),
        }
    }
    let six = fixture.open(fixture.wide(key, "six")).await;
    assert!(matches!(six, SessionOpening::Refused(CloseCode::PlanLimit)), "{six:?}");
    fixture.plan(Plan::Pro).await;
    opened(fixture.open(fixture.wide(key, "six")).await);
}

async fn history_of_a_lower_plan_is_dropped_and_that_of_others_stays(fixture: Fixture) {
    fixture.make_tenant().await;
    let session = fixture.agent("host").await;
    let (ended, open) = (fixture.delivered(&session).await, fixture.delivered(&session).await);
    fixture.settle(&session, ended, Outcome::Succeeded).await;
    fixture.store.writer().commit(IndexHistory { limit: 100 }).await.expect("index");
    let system = fixture.store.system();
    // Ids carry the time of this test, not the fixture's.
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let starter = async || system.tenants_with_old_history(Plan::Starter, later).await;
    assert_eq!(starter().await.expect("read"), []);
    let retention = |tenant_id| TenantRetention {
        tenant_id,
        history_before: later,
        deliveries_before: later,
        hook_deliveries_before: later,
    };
    while system.drop_old_of_tenant(retention(TenantId::new())).await.expect("sweep") {}
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.command(ended).await.expect("read").is_some(), "another tenant's history");
    // The next sweep reads the new plan: it concerns what is there.
    fixture.plan(Plan::Starter).await;
    assert_eq!(starter().await.expect("read"), [fixture.tenant_id]);
    let early = system.tenants_with_old_history(Plan::Starter, NOW.minus_ms(NOW.0 as u64)).await;
    assert_eq!(early.expect("read"), []);
    while system.drop_old_of_tenant(retention(fixture.tenant_id)).await.expect("sweep") {}
    assert!(tenant.command(ended).await.expect("read").is_none());
    assert!(tenant.command(open).await.expect("read").is_some());
    let page = PageRequest { after: None, limit: 10 };
    let events = tenant.agent_events(session.agent_id, page).await.expect("read");
    assert!(events.is_empty(), "{events:?}");
    assert!(tenant.job(JobId::new()).await.expect("read").is_none());
}

async fn tenants_are_listed_counted_and_changed(fixture: Fixture) {
    fixture.make_tenant().await;
    let session = fixture.agent("host").await;
    fixture.delivered(&session).await;
    let page = PageRequest { after: None, limit: 10 };
    let listed = fixture.store.system().tenants(page).await.expect("read");
    assert_eq!(listed.len(), 1);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let usage = tenant.tenant_usage().await.expect("count");
    assert_eq!((usage.agents, usage.executions, usage.output_bytes), (1, 1, 0));
    let change = TenantChange {
        name: Some("new".into()),
        plan: Some(Plan::Starter),
        ..TenantChange::default()
    };
    let entries = TenantAudit { requested: audit(fixture.tenant_id), in_tenant: None };
    let changed = tenant.update_tenant(change.clone(), entries.clone()).await.expect("change");
    let changed = changed.expect("the tenant");
    assert_eq!((changed.name.as_str(), changed.plan), ("new", Plan::Starter));
    let stranger = fixture.store.tenant(TenantId::new());
    assert!(stranger.tenant().await.expect("read").is_none());
    assert_eq!(stranger.update_tenant(change, entries).await.expect("try"), None);
    let usage = stranger.tenant_usage().await.expect("count");
    assert_eq!((usage.agents, usage.executions, usage.output_bytes), (0, 0, 0));
}
