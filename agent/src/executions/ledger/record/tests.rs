use super::*;
use crate::storage;
use data_encoding::HEXLOWER;
use muster_protocol::library::CallDataProblem;
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_exit_record_always_fits_into_the_reserved_space(message in "\\PC{0,3000}") {
        let exit = ExitRecord {
            ending: ExecutionEnd::refused("script_missing", &message),
            is_timed_out: false,
            is_cancelled: true,
            cancelled_by: CancelledBy::HostOwner,
            is_unhealthy: false,
            result: ExecuteResult {
                exit_code: Some(i32::MIN), signal: Some(i32::MIN), duration_ms: u64::MAX,
                output_bytes: u64::MAX, stdout_bytes: u64::MAX, stderr_bytes: u64::MAX,
                dropped_bytes: u64::MAX, output_complete: false,
                output_sha256: Some("f".repeat(64)),
                stdout_sha256: Some("f".repeat(64)),
                stderr_sha256: Some("f".repeat(64)),
                steps: Vec::new(),
        rehearsal: None,
            },
            run: Some(AttestedRun {
                script: Some("s".repeat(136)), library_version: Some(u32::MAX), program_sha256: Some("f".repeat(64)),
                parameters_sha256: "f".repeat(64), secret_count: u32::MAX,
                defaults_sha256: Some("f".repeat(64)), policy: Some("manifest".into()),
                started_at_ms: u64::MAX, ended_at_ms: u64::MAX, steps: Vec::new(),
            }),
            failed_part: Some(FailedPart::Dependencies),
            call: None,
        };
        prop_assert!(storage::seal(&Settlement::Exit(Box::new(exit.clone()))).len() <= EXIT_BYTES);
        let call = CallReport {
            data_version: u64::MAX,
            last_part: Some(CallPart::Trigger),
            data: Some("\"".repeat(MAX_CALL_DATA_BYTES)),
            data_problem: Some(CallDataProblem::TooLarge),
        };
        let exit = ExitRecord { call: Some(call), ..exit };
        let bytes = storage::seal(&Settlement::Exit(Box::new(exit))).len();
        prop_assert!(bytes <= EXIT_BYTES + CALL_BYTES);
    }
}

#[test]
fn a_launch_from_before_policies_and_ad_hoc_commands_is_a_script_of_the_agents_own_user() {
    // As the first version wrote it: do not edit this text.
    let text = r#"{"path":"a.sh","interpreter":null,"args":[],"sha256":null,"timeout_ms":1,"output_limit_bytes":2,"output_quota_bytes":3}"#;
    let launch: Launch = serde_json::from_str(text).expect("readable");
    assert_eq!((launch.path.as_str(), launch.run_as, launch.script), ("a.sh", None, None));
    assert!(launch.argv.is_empty());
}

#[test]
fn parameters_from_before_secrets_are_read_and_written_as_they_were() {
    // As the first version wrote it: do not edit this text.
    let text = r#"{"parameters":{"WHO":"me"}}"#;
    let record: ParameterRecord = serde_json::from_str(text).expect("readable");
    assert!(record.secret_parameters.is_empty());
    assert_eq!(serde_json::to_string(&record).expect("plain"), text);
}

#[test]
fn records_of_version_1_are_read() {
    // A record as the first version wrote it: do not edit this text.
    let text = br#"{"version":1,"kind":"exit","ending":{"how":"ended"},"is_timed_out":false,"is_cancelled":false,"result":{"exit_code":3,"duration_ms":12,"output_bytes":2,"stdout_bytes":2,"stderr_bytes":0,"dropped_bytes":0,"output_complete":true}}"#;
    let seal = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, text).as_ref());
    let bytes = [text.as_slice(), b"\n", seal.as_bytes(), b"\n"].concat();
    let settlement: Settlement =
        storage::unseal(&bytes, std::path::Path::new("exit")).expect("readable");
    let response = settlement.response(Uuid::from_u128(1));
    assert_eq!(response.outcome, Some(Outcome::Failed));
    assert_eq!(response.data["exit_code"], 3);
}
