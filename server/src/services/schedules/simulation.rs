//! Simulations: what the schedules of a tenant will do, with its calendars.

use super::Schedules;
use crate::domain::access::principal::Scope;
use crate::domain::ids::ScheduleId;
use crate::domain::page::PageRequest;
use crate::domain::schedules::calendar::{Calendar, CalendarRecord};
use crate::domain::schedules::fire::ScheduleState;
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::schedules::simulation::{
    MAX_SIMULATED_MS, SimulatedSchedule, Simulation, simulate,
};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Default length of a simulation: 30 days.
const DEFAULT_SIMULATED_MS: u64 = 30 * 86_400_000;
/// Schedules that one query returns.
const SLICE: u64 = 500;

impl Schedules {
    /// Simulates one schedule, enabled or not, or all that are active.
    ///
    /// # Errors
    /// 422 if `for_ms` is too long; 404.
    pub async fn simulate(
        &self,
        caller: &Caller,
        id: Option<ScheduleId>,
        from: Option<Timestamp>,
        for_ms: Option<u64>,
    ) -> Result<Simulation> {
        caller.require(Scope::SchedulesRead)?;
        let for_ms = for_ms.unwrap_or(DEFAULT_SIMULATED_MS);
        if !(1..=MAX_SIMULATED_MS).contains(&for_ms) {
            return Err(ServiceError::out_of_range("for_ms", for_ms, 1..=MAX_SIMULATED_MS));
        }
        let from = from.unwrap_or_else(|| self.clock.now());
        let rows = match id {
            Some(id) => vec![self.find(caller, id).await?],
            None => self.active(caller).await?,
        };
        let schedules: Vec<_> = rows
            .iter()
            .filter_map(|row| {
                Some(SimulatedSchedule { id: row.id, due_times: row.due_times().ok()? })
            })
            .collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let calendars: Vec<_> = tenant
            .calendars()
            .await?
            .into_iter()
            // Which agents a due time reaches is not known before.
            .filter_map(|row| Calendar::new(&CalendarRecord::from(row)).ok())
            .filter(|calendar| calendar.target().is_none())
            .collect();
        let until = from.plus_ms(for_ms);
        let simulated = move || simulate(&schedules, &calendars, from, until);
        tokio::task::spawn_blocking(simulated).await.map_err(|_| ServiceError::Busy {
            code: "server_busy",
            detail: "the simulation was interrupted; try again",
        })
    }

    async fn active(&self, caller: &Caller) -> Result<Vec<ScheduleRecord>> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let rows = tenant.schedules(PageRequest { after, limit: SLICE }).await?;
            let is_last = rows.len() as u64 <= SLICE;
            let rows = rows.into_iter().take(SLICE as usize);
            for row in rows {
                after = Some(row.id.0);
                all.push(ScheduleRecord::from(row));
            }
            if is_last {
                break;
            }
        }
        all.retain(|row| row.state == ScheduleState::Active);
        Ok(all)
    }
}
