//! Who a target means, from the rows of a tenant.

use std::collections::BTreeSet;

use muster_server::domain::fleet::target::Target;
use muster_server::domain::ids::{AgentId, TenantId};
use muster_server::store::queries::{AgentChange, Deletion};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    targets_mean_the_agents_of_their_tenant_that_are_not_deleted,
    facts_are_what_the_host_reported_and_tags_are_the_keys_and_peoples,
    more_ids_than_fit_one_statement_are_all_looked_up,
);

fn expression(text: &str) -> Target {
    Target::Expression(text.parse().expect("an expression"))
}

/// Names of those who are meant, while only `online` is connected.
async fn meant(fixture: &Fixture, target: &Target, online: AgentId) -> Vec<String> {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let chosen = tenant.resolve(target, |id| id == online).await.expect("resolve");
    chosen.agents.into_iter().map(|facts| facts.name).collect()
}

async fn targets_mean_the_agents_of_their_tenant_that_are_not_deleted(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await.agent_id, fixture.agent("two").await.agent_id);
    let gone = fixture.agent("gone").await.agent_id;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let deleted = tenant.delete_agent(gone, Deletion::Operator, NOW, audit(fixture.tenant_id));
    assert!(deleted.await.expect("delete").is_some());

    let ids = Target::Ids([two, gone].into());
    for (target, names) in [
        (expression("all"), vec!["one", "two"]),
        (Target::Tags(vec!["web".into()]), vec!["one", "two"]),
        (Target::Tags(vec!["web".into(), "db".into()]), vec![]),
        (expression("status:online"), vec!["one"]),
        (expression("!status:online"), vec!["two"]),
        (ids.clone(), vec!["two"]),
    ] {
        assert_eq!(meant(&fixture, &target, one).await, names, "{target:?}");
        let stranger = fixture.store.tenant(TenantId::new());
        let chosen = stranger.resolve(&target, |_| true).await.expect("resolve");
        assert!(chosen.agents.is_empty(), "{target:?}");
    }
    let chosen = tenant.resolve(&ids, |_| true).await.expect("resolve");
    assert_eq!(chosen.unknown_ids, [gone].into());
}

async fn facts_are_what_the_host_reported_and_tags_are_the_keys_and_peoples(fixture: Fixture) {
    let mut registration = fixture.registration("host");
    registration.os = "Linux 6.8.0".into();
    registration.arch = "x86_64".into();
    registration.version = "0.1.0".into();
    fixture.open(registration).await;
    let everybody = || async {
        let tenant = fixture.store.tenant(fixture.tenant_id);
        tenant.resolve(&expression("all"), |_| false).await.expect("resolve").agents
    };
    let [facts] = <[_; 1]>::try_from(everybody().await).expect("one agent");
    assert_eq!((facts.os.as_str(), facts.arch.as_str()), ("Linux 6.8.0", "x86_64"));
    assert_eq!((facts.hostname.as_str(), facts.version.as_str()), ("host", "0.1.0"));
    assert_eq!((facts.tags.as_slice(), facts.is_online), (&["web".to_owned()][..], false));

    let change = AgentChange {
        name: Some("front".into()),
        tags: Some(vec!["db".into()]),
        ..AgentChange::default()
    };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    tenant.update_agent(facts.id, change, audit(fixture.tenant_id)).await.expect("change");
    let known = everybody().await;
    let changed = expression("name:front & tag:db & !tag:web & hostname:host & level:full");
    assert!(known.len() == 1 && changed.matches(&known[0]), "{known:?}");
}

async fn more_ids_than_fit_one_statement_are_all_looked_up(fixture: Fixture) {
    let mut ids: BTreeSet<_> = (0..600).map(|_| AgentId::new()).collect();
    let first = fixture.agent("first").await.agent_id;
    ids.extend((0..600).map(|_| AgentId::new()));
    let last = fixture.agent("last").await.agent_id;
    ids.extend([first, last]);
    let target = Target::Ids(ids);
    assert_eq!(meant(&fixture, &target, first).await, ["first", "last"]);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let chosen = tenant.resolve(&target, |_| false).await.expect("resolve");
    assert_eq!(chosen.unknown_ids.len(), 1200);
}
