//! What each operation answers when it succeeds. A test requires an entry for every operation.

/// Operation, status, sentence.
const SENTENCES: &[(&str, &str, &str)] = &[
    ("approve_request", "200", "The request, which is approved. Its work is released."),
    ("create_approval_rule", "201", "The rule of approval."),
    ("delete_approval_rule", "204", "The rule of approval is deleted."),
    ("explain_access", "200", "Whether it is allowed, and what each rule says."),
    ("get_approval", "200", "The request for approval with the agents of its work."),
    ("list_approval_rules", "200", "Every rule of approval."),
    ("list_approvals", "200", "A page of requests for approval."),
    ("refuse_request", "200", "The request, which is refused. Its work has ended."),
    ("abort_job", "202", "The job. Its queued executions have ended."),
    ("adopt_agent", "200", "The agent, which has the identity of the new key pair."),
    ("cancel_command", "202", "The command. It has ended, or its agent was asked to end it."),
    ("cancel_execution", "202", "The execution. It has ended, or its agent was asked to end it."),
    ("cancel_job", "202", "The job. Its queued executions have ended."),
    ("change_release_key", "201", "The statement is stored."),
    ("command_agent", "200", "The agent's reply to a transient command."),
    ("command_agent", "202", "The durable command, which is stored."),
    ("command_agent_of_key", "200", "The agent's reply to a transient command."),
    ("command_agent_of_key", "202", "The durable command, which is stored."),
    ("create_agent_key", "201", "The agent key with its secret."),
    ("create_api_key", "201", "The API key with its secret."),
    ("create_group", "201", "The group."),
    ("delete_agent", "204", "The agent is deleted."),
    ("delete_agent_key", "204", "The agent key is deleted."),
    ("delete_group", "204", "The group is deleted."),
    ("draft_release", "201", "The release as a draft."),
    ("end_previous_api_secret", "200", "The API key, of which only the new secret is valid."),
    ("exchange_frames", "200", "Frames for the agent, in the binary format of an exchange."),
    ("follow_events", "200", "A stream of events. The schema describes one event."),
    ("follow_output", "200", "A stream of events. The schema describes one event."),
    ("get_agent", "200", "The agent."),
    ("get_agent_key", "200", "The agent key, without its secret."),
    ("get_api_key", "200", "The API key, without its secret."),
    ("get_command", "200", "The command."),
    ("get_delivery", "200", "The delivery with its attempts."),
    ("get_desired_release", "200", "The version that the agent should run."),
    ("get_execution", "200", "The execution."),
    ("get_group", "200", "The group and the state of its agents."),
    ("get_health", "200", "The process is running."),
    ("get_job", "200", "The job with its progress."),
    ("get_metrics", "200", "All metrics of the server."),
    ("get_readiness", "200", "The server can do its work."),
    ("get_release", "200", "The release with its programs."),
    ("list_agent_events", "200", "A page of events."),
    ("list_agent_keys", "200", "A page of agent keys."),
    ("list_agent_metrics", "200", "Samples of telemetry."),
    ("list_agent_scripts", "200", "The scripts that the host allows."),
    ("list_agents", "200", "A page of agents."),
    ("list_api_keys", "200", "A page of API keys."),
    ("list_audit_entries", "200", "A page of the audit log."),
    ("list_commands", "200", "A page of commands."),
    ("list_connected_agents", "200", "A page of connected agents. It may be empty."),
    ("list_deliveries", "200", "A page of deliveries."),
    ("list_executions", "200", "A page of executions."),
    ("list_groups", "200", "A page of groups."),
    ("list_job_executions", "200", "A page of the job's executions."),
    ("list_jobs", "200", "A page of jobs."),
    ("list_releases", "200", "A page of releases."),
    ("pause_group", "200", "The group, which is paused."),
    ("pause_job", "202", "The job, whose rollout is paused."),
    ("ping_agent", "200", "The agent's reply."),
    ("ping_agent_of_key", "200", "The agent's reply."),
    ("poll_commands", "200", "The commands that wait for the agent. The list may be empty."),
    ("post_heartbeat", "200", "The heartbeat is recorded."),
    ("post_result", "200", "The result is committed."),
    ("preview_target", "200", "The agents that the target matches now."),
    ("publish_release", "200", "The release, which is published."),
    ("read_execution_output", "200", "The complete output so far."),
    ("read_execution_output", "204", "There is no output behind the start of the range yet."),
    ("read_execution_output", "206", "The bytes of the range."),
    ("read_output", "200", "The complete output so far."),
    ("read_output", "204", "There is no output behind the start of the range yet."),
    ("read_output", "206", "The bytes of the range."),
    ("regenerate_agent_key", "200", "The agent key with its new secret."),
    ("resend_delivery", "202", "The delivery, which is sent again."),
    ("resolve_agent", "200", "The agent, and what matched."),
    ("resume_group", "200", "The group, which continues."),
    ("resume_job", "202", "The job, whose rollout continues."),
    ("retry_job", "202", "The new job."),
    ("revoke_api_key", "200", "What the revocation changed."),
    ("rotate_api_key", "200", "The API key with its new secret."),
    (
        "rotate_secrets",
        "200",
        "When the secrets changed, and how long the previous ones are valid.",
    ),
    ("set_up", "201", "The first owner. Set-up is closed."),
    ("show_secret", "200", "The secret."),
    ("submit_job", "202", "The job, which is stored with its executions."),
    ("update_agent", "200", "The agent."),
    ("update_agent_key", "200", "The agent key."),
    ("update_api_key", "200", "The API key, and the keys that were narrowed with it."),
    ("update_group", "200", "The group and the state of its agents."),
    ("upload_program", "204", "The program is stored."),
    ("withdraw_release", "200", "The release, which is withdrawn."),
];

/// The sentence of an operation's status.
pub fn sentence(operation: &str, status: &str) -> Option<&'static str> {
    let found = SENTENCES.iter().find(|(name, known, _)| *name == operation && *known == status);
    found.map(|(_, _, sentence)| *sentence)
}

/// True if the answer has a `Location` header: it names what was created or changed.
pub fn has_location(operation: &str, status: &str) -> bool {
    let creates = matches!(operation, "create_agent_key" | "create_group" | "submit_job");
    let acts_on_job = status == "202" && operation.ends_with("_job");
    creates && matches!(status, "201" | "202")
        || acts_on_job
        || status == "202" && operation.starts_with("command_agent")
}

/// Every operation and status that has a sentence.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    SENTENCES.iter().map(|(operation, status, _)| (*operation, *status))
}
