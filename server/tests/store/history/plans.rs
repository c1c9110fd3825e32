//! What the databases say of the statements behind a page.

use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::trigger::Trigger;
use muster_server::domain::page::PageRequest;
use muster_server::store::queries::{CommandFilter, Explained};
use proptest::test_runner::TestRunner;
use sea_orm::ConnectionTrait as _;

use super::past::Past;
use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(every_filter_walks_its_index_and_nothing_is_scanned_or_sorted,);

const ROWS: usize = 20_000;

/// Each filter alone, and some together.
fn filters(past: &Past) -> Vec<(&'static str, CommandFilter)> {
    let all = CommandFilter { is_execution: true, ..Default::default() };
    let of_agent = CommandFilter { agent_id: Some(past.agents[3]), ..all.clone() };
    let failed = vec![CommandState::Failed];
    let range = CommandFilter {
        created_after: Some(past.rows[ROWS / 2].created_at),
        created_before: Some(past.rows[ROWS / 2 + 500].created_at),
        ..all.clone()
    };
    vec![
        ("none", all.clone()),
        ("agent", of_agent.clone()),
        ("script", CommandFilter { script: Some("deploy".into()), ..all.clone() }),
        ("agents", CommandFilter { agents: Some(past.agents.clone()), ..all.clone() }),
        ("job", CommandFilter { job_id: Some(past.jobs[0]), ..all.clone() }),
        ("state failed", CommandFilter { states: failed.clone(), ..all.clone() }),
        ("state succeeded", CommandFilter { states: vec![CommandState::Succeeded], ..all.clone() }),
        ("state running", CommandFilter { states: vec![CommandState::Running], ..all.clone() }),
        ("created", range.clone()),
        ("trigger", CommandFilter { trigger: Some(Trigger::Retry), ..all.clone() }),
        ("requested by", CommandFilter { requested_by: Some(past.keys[1]), ..all }),
        ("agent and state", CommandFilter { states: failed, ..of_agent }),
        ("script and created", CommandFilter { script: Some("deploy".into()), ..range }),
    ]
}

async fn every_filter_walks_its_index_and_nothing_is_scanned_or_sorted(fixture: Fixture) {
    let past = Past::of(&fixture, &mut TestRunner::default(), ROWS).await;
    // With and without statistics: SQLite has none unless they are created.
    for is_analysed in [false, true] {
        if is_analysed || fixture.postgres_url().is_some() {
            let analyse = fixture.store.writer().change(|transaction| {
                Box::pin(async move { Ok(transaction.execute_unprepared("ANALYZE").await?) })
            });
            analyse.await.expect("analyse");
        }
        let tenant = fixture.store.tenant(fixture.tenant_id);
        for (name, filter) in filters(&past) {
            let page = PageRequest { after: Some(past.rows[ROWS - 100].id.0), limit: 50 };
            for explained in tenant.explain_commands(&filter, page).await.expect("explain") {
                // `MUSTER_SHOW_PLANS=1 cargo nextest run … --no-capture` prints what docs show.
                if std::env::var_os("MUSTER_SHOW_PLANS").is_some() {
                    println!(
                        "{name}: {}\n    {}",
                        explained.statement,
                        explained.plan.join("\n    ")
                    );
                }
                check(name, &explained);
            }
        }
    }
}

fn check(name: &str, explained: &Explained) {
    let Explained { index, plan, .. } = explained;
    let text = plan.join("\n");
    // A database that sees a narrower one may take it.
    let narrower = ["commands_agent", "commands_script", "commands_unsuccessful"];
    let is_walked = text.contains(index) || narrower.iter().any(|index| text.contains(index));
    assert!(is_walked, "{name}: {index} is not used:\n{text}");
    for line in plan {
        let is_scan = line.contains("Seq Scan") || line.contains("Bitmap");
        let is_whole = line.starts_with("SCAN") && !line.contains("commands_open");
        let is_sort = line.contains("Sort") || line.contains("TEMP B-TREE");
        assert!(!is_scan && !is_whole && !is_sort, "{name}:\n{text}\n{}", explained.statement);
        // Only what is open is looked up one by one, and that not by walking all there is.
        let is_backward = line.contains("Backward using commands_pkey");
        assert!(!is_backward, "{name}:\n{text}\n{}", explained.statement);
    }
}
