//! Who is let in, as whom, and whether its ledger is believed.

use muster_protocol::CloseCode;
use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::domain::fleet::agent::AgentEventKind;
use muster_server::domain::ids::{AgentId, AgentKeyId};
use muster_server::domain::page::PageRequest;
use muster_server::store::writer::{
    AgentIdentity, CloseSession, OpenSession, OpenedSession, SessionOpening, SubmitCommand,
    Submitted,
};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    an_agent_keeps_its_id_and_epochs_grow,
    a_basic_agent_is_its_key_unless_the_key_trusts_its_holders,
    an_unknown_id_is_kept_with_its_ticket_only,
    the_limit_of_a_key_holds_within_one_batch_too,
    an_older_or_other_ledger_loses_what_was_sent,
    a_process_that_was_replaced_and_comes_back_is_a_second_host,
    an_agent_that_knows_later_epochs_shows_a_restored_server,
    a_command_for_a_replaced_session_stays_queued,
    events_come_once_per_transition,
    a_secret_that_was_replaced_while_its_session_opened_is_refused,
    another_machines_id_is_no_sign_of_a_restored_server,
);

/// Turns a registration into that of an agent that reconnects.
pub fn returning(registration: &mut OpenSession, before: &OpenedSession) {
    if let AgentIdentity::Full { agent_id, highest_epoch, .. } = &mut registration.identity {
        *agent_id = Some(before.agent_id);
        *highest_epoch = before.epoch.cast_unsigned();
    }
}

pub fn opened(opening: SessionOpening) -> OpenedSession {
    match opening {
        SessionOpening::Opened(opened) => *opened,
        SessionOpening::Refused(code) => panic!("refused with {code:?}"),
    }
}

pub fn refused(opening: SessionOpening) -> CloseCode {
    match opening {
        SessionOpening::Opened(opened) => panic!("let in: {opened:?}"),
        SessionOpening::Refused(code) => code,
    }
}

pub async fn close(fixture: &Fixture, session: &OpenedSession) {
    let operation = CloseSession {
        tenant_id: fixture.tenant_id,
        agent_id: session.agent_id,
        epoch: session.epoch,
        reason: "test",
        now: NOW,
    };
    fixture.store.writer().commit(operation).await.expect("close");
}

async fn an_agent_keeps_its_id_and_epochs_grow(fixture: Fixture) {
    let first = fixture.agent("host").await;
    let mut again = fixture.registration("host");
    returning(&mut again, &first);
    let second = opened(fixture.open(again.clone()).await);
    assert_eq!((second.agent_id, second.epoch), (first.agent_id, first.epoch + 1));
    // A machine that is renamed stays the agent of its key pair, with or without its id.
    if let AgentIdentity::Full { machine_id, .. } = &mut again.identity {
        *machine_id = "elsewhere".into();
    }
    assert_eq!(opened(fixture.open(again).await).agent_id, first.agent_id);
    assert_eq!(fixture.agent("host").await.agent_id, first.agent_id);
}

async fn the_limit_of_a_key_holds_within_one_batch_too(fixture: Fixture) {
    let mut waits = Vec::new();
    for number in 0..10 {
        let registration = fixture.registration(&format!("host-{number}"));
        waits.push(fixture.store.writer().enqueue(registration).await.expect("queue"));
    }
    let mut let_in = 0;
    for wait in waits {
        match wait.await.expect("open") {
            SessionOpening::Opened(_) => let_in += 1,
            SessionOpening::Refused(code) => assert_eq!(code, CloseCode::AgentLimit),
        }
    }
    assert_eq!(let_in, 3);
    let mut stranger = fixture.registration("host-0");
    stranger.key_id = AgentKeyId::new();
    assert_eq!(refused(fixture.open(stranger).await), CloseCode::KeyDeleted);
}

async fn an_older_or_other_ledger_loses_what_was_sent(fixture: Fixture) {
    let mut session = fixture.agent("host").await;
    for (ledger, count, expected) in
        [(1, 5, CommandState::Delivered), (1, 4, CommandState::Lost), (2, 9, CommandState::Lost)]
    {
        let sent = fixture.delivered(&session).await;
        let waiting = fixture.submission(session.agent_id);
        let queued = waiting.row.id;
        fixture.store.writer().commit(waiting).await.expect("submit");
        let mut again = fixture.registration("host");
        returning(&mut again, &session);
        if let AgentIdentity::Full { ledger_id, acceptance_count, .. } = &mut again.identity {
            *ledger_id = Uuid::from_u128(ledger);
            *acceptance_count = count;
        }
        session = opened(fixture.open(again).await);
        let found = fixture.command(sent).await.command;
        assert_eq!(found.state, expected, "ledger {ledger}, count {count}");
        if expected == CommandState::Lost {
            assert_eq!(found.end_reason, Some(EndReason::LedgerReplaced));
        }
        assert_eq!(fixture.state(queued).await, CommandState::Queued);
    }
}

async fn a_process_that_was_replaced_and_comes_back_is_a_second_host(fixture: Fixture) {
    let first = fixture.agent("host").await;
    let as_instance = |instance: u128| {
        let mut registration = fixture.registration("host");
        returning(&mut registration, &first);
        if let AgentIdentity::Full { instance_id, highest_epoch, .. } = &mut registration.identity {
            *instance_id = Uuid::from_u128(instance);
            *highest_epoch = 1;
        }
        registration
    };
    let second = opened(fixture.open(as_instance(2)).await);
    assert_eq!(refused(fixture.open(as_instance(1)).await), CloseCode::IdentityConflict);
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = tenant.agent(first.agent_id).await.expect("read").expect("the agent");
    assert_eq!(row.alert.as_deref(), Some("identity_conflict"));
    assert_eq!(row.epoch, second.epoch, "the one that works goes on");
    close(&fixture, &second).await;
    opened(fixture.open(as_instance(1)).await);
}

async fn an_agent_that_knows_later_epochs_shows_a_restored_server(fixture: Fixture) {
    let first = fixture.agent("host").await;
    assert!(!first.server_restored);
    let mut again = fixture.registration("host");
    returning(&mut again, &OpenedSession { epoch: 40, ..first.clone() });
    let restored = opened(fixture.open(again).await);
    assert!(restored.server_restored);
    assert_eq!(restored.epoch, 41);
}

async fn an_unknown_id_is_kept_with_its_ticket_only(fixture: Fixture) {
    let first = fixture.agent("host").await;
    for (is_issued, machine) in [(true, "another"), (false, "forger")] {
        let mut unknown = fixture.registration(machine);
        let id = AgentId::new();
        returning(&mut unknown, &OpenedSession { agent_id: id, epoch: 7, ..first.clone() });
        if let AgentIdentity::Full { has_ticket, .. } = &mut unknown.identity {
            *has_ticket = is_issued;
        }
        let found = opened(fixture.open(unknown).await);
        assert_eq!(found.agent_id == id, is_issued);
        assert_eq!(found.server_restored, is_issued);
        assert_eq!(found.epoch, if is_issued { 8 } else { 1 });
    }
    // A ticket does not take an id that another agent has.
    let mut thief = fixture.registration_with("host", "thief");
    returning(&mut thief, &first);
    if let AgentIdentity::Full { has_ticket, .. } = &mut thief.identity {
        *has_ticket = true;
    }
    assert_eq!(refused(fixture.open(thief).await), CloseCode::AgentLimit);
}

async fn a_basic_agent_is_its_key_unless_the_key_trusts_its_holders(fixture: Fixture) {
    let basic = |hostname: &str| OpenSession {
        identity: AgentIdentity::Basic,
        ..fixture.registration(hostname)
    };
    let first = opened(fixture.open(basic("one")).await);
    // The newer session of the same host replaces the older one, as ever.
    assert_eq!(opened(fixture.open(basic("one")).await).agent_id, first.agent_id);
    assert_eq!(refused(fixture.open(basic("two")).await), CloseCode::AgentLimit);
    fixture.trust_holders().await;
    let second = opened(fixture.open(basic("two")).await);
    assert_ne!(second.agent_id, first.agent_id);
    let third = opened(fixture.open(basic("three")).await);
    assert_eq!(opened(fixture.open(basic("two")).await).agent_id, second.agent_id);
    assert_ne!(third.agent_id, second.agent_id);
}

async fn a_command_for_a_replaced_session_stays_queued(fixture: Fixture) {
    let old = fixture.agent("host").await;
    let mut again = fixture.registration("host");
    returning(&mut again, &old);
    opened(fixture.open(again).await);
    let submission =
        SubmitCommand { deliver_in_epoch: Some(old.epoch), ..fixture.submission(old.agent_id) };
    let id = submission.row.id;
    let submitted = fixture.store.writer().commit(submission).await.expect("submit");
    assert_eq!(submitted, Submitted::New { delivered: false });
    assert_eq!(fixture.state(id).await, CommandState::Queued);
}

async fn a_secret_that_was_replaced_while_its_session_opened_is_refused(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let regenerate = async |secret: u8, until| {
        let entry = crate::fixture::audit(fixture.tenant_id);
        let secret = (vec![secret; 32], "mst_agent_".into());
        let done = tenant.regenerate_agent_key(fixture.key_id, secret, NOW, until, entry).await;
        done.expect("regenerate").expect("the key");
    };
    // In grace the old secret still opens sessions of known agents, and no longer when it is over.
    let known = fixture.agent("host").await;
    regenerate(1, Some(NOW.plus_ms(1_000))).await;
    assert_eq!(fixture.agent("host").await.agent_id, known.agent_id);
    let stranger = fixture.registration("stranger");
    assert_eq!(refused(fixture.open(stranger).await), CloseCode::KeyRegenerated);
    let reinstalled = fixture.registration_with("host", "new");
    assert_eq!(refused(fixture.open(reinstalled).await), CloseCode::KeyRegenerated);
    let mut fresh = fixture.registration("stranger");
    fresh.secret_hash = vec![1; 32];
    opened(fixture.open(fresh).await);
    let mut late = fixture.registration("other");
    late.now = NOW.plus_ms(1_000);
    assert_eq!(refused(fixture.open(late).await), CloseCode::KeyRegenerated);
    regenerate(2, None).await;
    let mut replaced = fixture.registration("other");
    replaced.secret_hash = vec![1; 32];
    assert_eq!(refused(fixture.open(replaced).await), CloseCode::KeyRegenerated);
    let mut current = fixture.registration("other");
    current.secret_hash = vec![2; 32];
    opened(fixture.open(current).await);
}

async fn another_machines_id_is_no_sign_of_a_restored_server(fixture: Fixture) {
    let first = fixture.agent("host").await;
    let mut clone = fixture.registration("elsewhere");
    returning(&mut clone, &OpenedSession { epoch: 9, ..first.clone() });
    let enrolled = opened(fixture.open(clone).await);
    assert_ne!(enrolled.agent_id, first.agent_id);
    assert!(!enrolled.server_restored);
}

async fn events_come_once_per_transition(fixture: Fixture) {
    let session = fixture.agent("host").await;
    close(&fixture, &session).await;
    close(&fixture, &session).await;
    let page = PageRequest { after: None, limit: 10 };
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let events = tenant.agent_events(session.agent_id, page).await.expect("read");
    let kinds: Vec<_> = events.iter().rev().map(|event| event.kind).collect();
    assert_eq!(kinds, [AgentEventKind::Enrolled, AgentEventKind::Online, AgentEventKind::Offline]);
}
