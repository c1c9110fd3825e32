//! Secret parameters of a schedule: sealed in storage, and in the clear only in the request of a fire.

use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Schedules;
use crate::domain::schedules::records::ScheduleRecord;
use crate::services::commands::jobs::JobRequest;
use crate::services::error::{Result, ServiceError};

/// A sealed value is bound to this field and cannot be opened as another one.
pub const FIELD: &str = "schedules.sealed_parameters";

impl Schedules {
    /// Writes the secrets into the record. `given`: as in a request, where `Some(None)` removes them.
    /// `is_other_job`: the record has another job than before.
    ///
    /// # Errors
    /// 422 if the job changes and the secrets are not given again: otherwise a person who may change the
    /// schedule could send the secrets of another to other hosts and scripts.
    pub(super) fn set_secrets(
        &self,
        row: &mut ScheduleRecord,
        given: Option<Option<Value>>,
        is_other_job: bool,
    ) -> Result<Option<Value>> {
        match given {
            None if is_other_job && row.sealed_parameters.is_some() => {
                Err(ServiceError::Invalid {
                    code: "secrets_not_given_again",
                    detail: "this schedule has secret parameters: with another job, give them again or remove them with null".into(),
                })
            }
            None => Ok(None),
            Some(None) => {
                row.sealed_parameters = None;
                row.secret_names.clear();
                Ok(None)
            }
            Some(Some(value)) => {
                let secrets: SecretParameters =
                    serde_json::from_value(value.clone()).map_err(|_| {
                        let problem = "must be an object of texts";
                        ServiceError::invalid_field("secret_parameters", problem)
                    })?;
                row.secret_names = secrets.iter().map(|(name, _)| name.to_owned()).collect();
                // A map of strings always serializes.
                let plain = Zeroizing::new(serde_json::to_vec(&secrets).unwrap_or_default());
                row.sealed_parameters = Some(self.secret_box.seal(row.tenant_id, FIELD, &plain)?);
                Ok(Some(value))
            }
        }
    }

    /// The request of a fire with the webhook and the secrets of the schedule.
    ///
    /// # Errors
    /// 409 if the secrets were sealed with another master key.
    pub(super) fn complete(&self, row: &ScheduleRecord, request: JobRequest) -> Result<JobRequest> {
        let webhook_url = row.webhook_url.clone();
        let Some(sealed) = &row.sealed_parameters else {
            return Ok(JobRequest { webhook_url, ..request });
        };
        let opened = self.secret_box.open(row.tenant_id, FIELD, sealed).ok();
        let secrets = opened.and_then(|opened| serde_json::from_slice::<Value>(&opened).ok());
        let Some(secrets) = secrets else {
            return Err(ServiceError::Conflict {
                code: "secrets_unreadable",
                detail: "the secret parameters of this schedule can't be opened with the master key of this server; set them again".into(),
            });
        };
        Ok(JobRequest { webhook_url, secret_parameters: Some(secrets), ..request })
    }
}
