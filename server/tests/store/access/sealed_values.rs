//! Values that are sealed again under another master key while the server runs.

use muster_server::store::entities::schedules::schedule;
use muster_server::store::queries::{ResealedValue, SealedTable};
use sea_orm::EntityTrait as _;
use sea_orm::sea_query::Expr;
use uuid::Uuid;

use crate::fixture::Fixture;
use crate::on_both_databases;

on_both_databases!(a_value_that_changed_since_it_was_read_is_not_sealed_again);

impl Fixture {
    async fn sealed(&self, table: SealedTable) -> (Uuid, Vec<u8>) {
        let values = self.store.system().sealed_values(table, Uuid::nil(), 10).await;
        let value = values.expect("read").pop().expect("a value");
        (value.id, value.sealed)
    }
}

async fn a_value_that_changed_since_it_was_read_is_not_sealed_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let submission = fixture.submission(session.agent_id);
    fixture.store.writer().commit(submission).await.expect("submit");
    fixture.schedule("nightly").await;
    schedule::Entity::update_many()
        .col_expr(schedule::Column::SealedParameters, Expr::value(b"sealed".to_vec()))
        .exec(fixture.rows().await)
        .await
        .expect("update");
    for table in [SealedTable::Commands, SealedTable::Schedules] {
        let (id, read) = fixture.sealed(table).await;
        let replace = async |previous: &[u8], sealed: &[u8]| {
            let change = ResealedValue { id, previous: previous.into(), sealed: sealed.into() };
            let replaced = fixture.store.system().replace_sealed_values(table, vec![change]).await;
            replaced.expect("replace");
            fixture.sealed(table).await.1
        };
        assert_eq!(replace(b"earlier", b"lost update").await, read, "{table:?}");
        assert_eq!(replace(&read, b"again").await, b"again", "{table:?}");
    }
}
