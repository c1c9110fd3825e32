-- The initial schema, table by table, grouped by feature.
--
-- Runs on SQLite and PostgreSQL. `{bytes}` is `blob` on SQLite and `bytea` on PostgreSQL.
-- Instants are milliseconds since the Unix epoch. Ids are UUIDv7 (16 bytes on SQLite).
-- Columns whose index entries are written later or only for open rows have partial indexes,
-- so that the hot ones stay as small as the work that is open.

-- access

CREATE TABLE tenants (
    id uuid NOT NULL PRIMARY KEY,
    name text NOT NULL,
    -- Which limits it has.
    plan text NOT NULL,
    created_at bigint NOT NULL,
    -- When everything of it is deleted; null unless that was asked for.
    delete_at bigint,
    -- True if the operator asked for it; then only the operator withdraws it.
    is_deleted_by_operator boolean NOT NULL,
    -- True if members with a password may do nothing without a second factor.
    requires_second_factor boolean NOT NULL,
    -- True if the schedules of somebody who left pass to an owner. Otherwise they stop.
    passes_schedules_on boolean NOT NULL DEFAULT FALSE,
    -- How many bytes of history and output it may store; null: what its plan allows.
    storage_quota_bytes bigint,
    manifest_bytes bigint NOT NULL,
    manifest_scripts bigint NOT NULL
);

CREATE TABLE api_keys (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    secret_hash {bytes} NOT NULL,
    role text NOT NULL,
    scopes json NOT NULL,
    created_at bigint NOT NULL,
    -- The key or the member that created it; null for the first one.
    created_by uuid,
    expires_at bigint,
    revoked_at bigint,
    -- What it may start, JSON; null without limits.
    limits json,
    -- The secret before the last rotation. It is kept after its end, so that a refusal can say why.
    previous_secret_hash {bytes},
    previous_prefix text,
    previous_valid_until bigint,
    -- Who rotated the key last; null before the first rotation.
    rotated_by uuid,
    last_used_at bigint,
    previous_used_at bigint
);
CREATE UNIQUE INDEX api_keys_secret ON api_keys (secret_hash);
CREATE INDEX api_keys_previous ON api_keys (previous_secret_hash) WHERE previous_secret_hash IS NOT NULL;
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id);
CREATE INDEX api_keys_expiry ON api_keys (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;

-- Every secret that an API key has had, with who made it and so knows it. Rows are only added.
CREATE TABLE api_key_secrets (
    secret_hash {bytes} NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    key_id uuid NOT NULL,
    -- The key or the member that created or rotated the key; null for the first secret of a tenant.
    made_by uuid,
    -- The secret that the maker presented, if it is a key.
    made_with {bytes},
    -- The session of the maker, if it is a member.
    session_id uuid,
    created_at bigint NOT NULL
);
CREATE INDEX api_key_secrets_tenant ON api_key_secrets (tenant_id, key_id);

CREATE TABLE agent_keys (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    secret_hash {bytes} NOT NULL,
    previous_secret_hash {bytes},
    previous_valid_until bigint,
    permissions json NOT NULL,
    tags json NOT NULL,
    max_agents integer NOT NULL,
    trusts_holders boolean NOT NULL,
    is_disabled boolean NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint
);
CREATE UNIQUE INDEX agent_keys_secret ON agent_keys (secret_hash);
CREATE INDEX agent_keys_expiry ON agent_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX agent_keys_previous ON agent_keys (previous_secret_hash) WHERE previous_secret_hash IS NOT NULL;

CREATE TABLE retired_agent_secrets (
    secret_hash {bytes} NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    key_id uuid NOT NULL,
    is_deleted boolean NOT NULL,
    retired_at bigint NOT NULL
);

-- People, for the server as a whole.
CREATE TABLE users (
    id uuid NOT NULL PRIMARY KEY,
    -- In lower case.
    email text NOT NULL,
    name text NOT NULL,
    password_hash text NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email);

-- People in tenants. The rows stay, because work names them.
CREATE TABLE members (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL,
    removed_at bigint,
    -- The member who removed it; null if a provider or a change of the role ended it. A provider never makes
    -- a person whom a member removed a member again.
    removed_by uuid,
    -- True if whoever runs the server made it an owner, with the set-up token or at the terminal.
    is_from_setup boolean NOT NULL
);
CREATE UNIQUE INDEX members_user ON members (tenant_id, user_id) WHERE removed_at IS NULL;
CREATE INDEX members_of_user ON members (user_id, id);

-- People as providers of single sign-on know them.
CREATE TABLE identities (
    id uuid NOT NULL PRIMARY KEY,
    user_id uuid NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    created_at bigint NOT NULL,
    -- The tenant in which the person is a member because the provider grants it.
    follows_in uuid
);
CREATE UNIQUE INDEX identities_subject ON identities (issuer, subject);
CREATE INDEX identities_user ON identities (user_id);

CREATE TABLE user_sessions (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    member_id uuid NOT NULL,
    created_at bigint NOT NULL,
    refreshed_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    -- When its person last proved the password, or used a second factor.
    confirmed_at bigint NOT NULL,
    -- Whether that was a passkey, which counts as both.
    confirmed_by_passkey boolean NOT NULL,
    -- Of the refresh token that is valid, and of the one before it.
    refresh_hash {bytes} NOT NULL,
    previous_refresh_hash {bytes},
    revoked_at bigint,
    source text
);
CREATE INDEX user_sessions_member ON user_sessions (member_id, id);

-- The second factor of people: what their devices compute codes from, sealed under the master key.
CREATE TABLE totp_secrets (
    user_id uuid NOT NULL PRIMARY KEY,
    sealed {bytes} NOT NULL,
    created_at bigint NOT NULL,
    -- When the first code was typed; null until then, and nobody is asked for codes.
    confirmed_at bigint,
    -- Of the last code that counted: it counts once.
    last_step bigint NOT NULL,
    -- Codes that were tried since then, without one that counted.
    tries integer NOT NULL,
    tried_since bigint NOT NULL
);

-- Key pairs of people's devices, which sign in instead of a password and a code.
CREATE TABLE passkeys (
    id uuid NOT NULL PRIMARY KEY,
    user_id uuid NOT NULL,
    -- Chosen by the device.
    credential_id {bytes} NOT NULL,
    name text NOT NULL,
    -- Public key and properties, as JSON.
    credential text NOT NULL,
    -- How often the device signed; 0 for one that does not count.
    sign_count bigint NOT NULL,
    created_at bigint NOT NULL,
    last_used_at bigint
);
CREATE UNIQUE INDEX passkeys_credential ON passkeys (credential_id);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- For people without the device. A row is deleted with its use.
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL,
    code_hash {bytes} NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

-- Ed25519 keys that sign access tokens, sealed under the master key.
CREATE TABLE token_keys (
    id uuid NOT NULL PRIMARY KEY,
    sealed {bytes} NOT NULL,
    created_at bigint NOT NULL
);

-- Sign-ins of programs that a person decides about elsewhere (RFC 8628). Each makes one session, once.
CREATE TABLE device_logins (
    id uuid NOT NULL PRIMARY KEY,
    -- Of the program's secret, and of what the person types, under the master key.
    device_hash {bytes} NOT NULL,
    user_hash {bytes} NOT NULL,
    -- What the program reports, and the address that it asks from.
    user_agent text NOT NULL,
    source text,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    decided_at bigint,
    -- The session that approved it; null if it was refused.
    approved_by uuid,
    used_at bigint
);
CREATE UNIQUE INDEX device_logins_device ON device_logins (device_hash);
CREATE UNIQUE INDEX device_logins_user ON device_logins (user_hash);
CREATE INDEX device_logins_expiry ON device_logins (expires_at);

-- Each makes one member, once.
CREATE TABLE invitations (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    -- In lower case.
    email text NOT NULL,
    role text NOT NULL,
    token_hash {bytes} NOT NULL,
    created_at bigint NOT NULL,
    created_by uuid NOT NULL,
    expires_at bigint NOT NULL,
    -- Accepted or withdrawn.
    ended_at bigint
);
CREATE UNIQUE INDEX invitations_token ON invitations (token_hash);
CREATE INDEX invitations_tenant ON invitations (tenant_id, id);

-- Who wants an account, until the address is verified. Rows go after an hour.
CREATE TABLE registrations (
    id uuid NOT NULL PRIMARY KEY,
    -- In lower case.
    email text NOT NULL,
    name text NOT NULL,
    tenant_name text NOT NULL,
    password_hash text NOT NULL,
    code_hash {bytes} NOT NULL,
    tries integer NOT NULL,
    codes_sent integer NOT NULL,
    -- The address had an account, so nobody knows the code.
    is_known boolean NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX registrations_email ON registrations (email);

-- Tokens for a new password, each valid once.
CREATE TABLE password_resets (
    token_hash {bytes} NOT NULL PRIMARY KEY,
    user_id uuid NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX password_resets_user ON password_resets (user_id);

-- The address that a person wants to have, until it is verified.
CREATE TABLE email_changes (
    user_id uuid NOT NULL PRIMARY KEY,
    -- What the hash of the code is for.
    request_id uuid NOT NULL,
    -- In lower case.
    email text NOT NULL,
    code_hash {bytes} NOT NULL,
    tries integer NOT NULL,
    -- Since when tries count: another request does not reset them.
    tried_since bigint NOT NULL,
    -- Another account has the address, so nobody knows the code.
    is_known boolean NOT NULL,
    expires_at bigint NOT NULL
);

-- Mails that wait to be sent. One that was sent is deleted.
CREATE TABLE mails (
    id uuid NOT NULL PRIMARY KEY,
    -- What it is about; `none` for one that is not sent.
    kind text NOT NULL,
    -- Receiver and text, sealed under the master key; empty once it failed.
    sealed {bytes} NOT NULL,
    is_failed boolean NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    give_up_at bigint NOT NULL,
    tries integer NOT NULL
);
CREATE INDEX mails_due ON mails (due_at) WHERE NOT is_failed;

CREATE TABLE audit_entries (
    id uuid NOT NULL PRIMARY KEY,
    -- The nil id for the log of the server, which belongs to its operator.
    tenant_id uuid NOT NULL,
    -- The number of the link that the entry belongs to.
    link bigint NOT NULL,
    at bigint NOT NULL,
    actor_kind text NOT NULL,
    actor_id uuid,
    -- The session of a member.
    session_id uuid,
    action text NOT NULL,
    subject_kind text NOT NULL,
    subject_id uuid,
    detail text NOT NULL,
    source text
);
-- In the order of the commits: ids are made before.
CREATE INDEX audit_tenant ON audit_entries (tenant_id, link, id);

-- The hash chain over the audit entries of a tenant: the entries of a commit are a link.
CREATE TABLE audit_links (
    tenant_id uuid NOT NULL,
    number bigint NOT NULL,
    previous_hash {bytes} NOT NULL,
    -- 48 bytes for each entry, in the order of their ids: the id and the digest.
    entries {bytes} NOT NULL,
    hash {bytes} NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- The last link of each tenant. Whoever adds a link locks this row.
CREATE TABLE audit_heads (
    tenant_id uuid NOT NULL PRIMARY KEY,
    number bigint NOT NULL,
    hash {bytes} NOT NULL,
    -- Of number and hash, in base64; empty before the first link.
    signature text NOT NULL
);

-- Where a log starts after retention removed its older links.
CREATE TABLE audit_anchors (
    tenant_id uuid NOT NULL PRIMARY KEY,
    -- The last link that was removed.
    number bigint NOT NULL,
    hash {bytes} NOT NULL,
    -- Of number and hash, in base64.
    signature text NOT NULL
);

-- fleet

CREATE TABLE agents (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    key_id uuid NOT NULL,
    level text NOT NULL,
    identity text NOT NULL,
    -- Of the key pair that a full agent proves; null for basic agents.
    public_key {bytes},
    -- SHA-256 of the public key that a person accepts as this agent's next one.
    next_fingerprint {bytes},
    name text NOT NULL,
    name_source text NOT NULL,
    hostname text NOT NULL,
    ip text NOT NULL,
    version text NOT NULL,
    os text NOT NULL,
    arch text NOT NULL,
    -- What starts the agent on its host; empty if it did not report it.
    service_manager text NOT NULL,
    capabilities json NOT NULL,
    tags json NOT NULL,
    policy text,
    max_executions integer NOT NULL,
    ledger_id uuid,
    instance_id uuid,
    previous_instance_id uuid,
    epoch bigint NOT NULL,
    transport text NOT NULL,
    is_online boolean NOT NULL,
    alert text,
    alert_detail text,
    connected_at bigint NOT NULL,
    last_seen_at bigint NOT NULL,
    created_at bigint NOT NULL,
    deleted_at bigint,
    update_result text,
    update_result_at bigint,
    -- The last notice about the server's authority that the agent has stored.
    notice_id uuid
);
CREATE INDEX agents_tenant ON agents (tenant_id, id);
CREATE INDEX agents_identity ON agents (key_id, identity);
CREATE UNIQUE INDEX agents_public_key ON agents (key_id, public_key)
    WHERE public_key IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX agents_next_fingerprint ON agents (key_id, next_fingerprint)
    WHERE next_fingerprint IS NOT NULL;
CREATE INDEX agents_name ON agents (tenant_id, name);
CREATE INDEX agents_hostname ON agents (tenant_id, hostname);

CREATE TABLE agent_ledgers (
    agent_id uuid NOT NULL PRIMARY KEY,
    acceptance_count bigint NOT NULL
);

CREATE TABLE agent_manifests (
    agent_id uuid NOT NULL PRIMARY KEY,
    manifest text NOT NULL,
    error text,
    reported_at bigint NOT NULL,
    digest {bytes},
    forbidden_commands text,
    size_bytes bigint NOT NULL,
    script_count bigint NOT NULL,
    -- When this manifest was first reported. A report with the same digest does not change it.
    in_force_since bigint NOT NULL
);

-- Facts that hosts report, a row for each.
CREATE TABLE agent_facts (
    agent_id uuid NOT NULL,
    name text NOT NULL,
    tenant_id uuid NOT NULL,
    -- A list of texts.
    fact_values json NOT NULL,
    PRIMARY KEY (agent_id, name)
);
CREATE INDEX agent_facts_by_name ON agent_facts (tenant_id, name, agent_id);

-- The last report of each host that reports facts.
CREATE TABLE agent_fact_reports (
    agent_id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    digest {bytes} NOT NULL,
    -- A list of errors, JSON.
    errors text NOT NULL,
    changed_at bigint NOT NULL
);

-- Certificates that this server has issued to clients: the last one of each key.
CREATE TABLE client_certificates (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    -- 'agent', 'api_key' or 'member', and its id.
    holder text NOT NULL,
    holder_id uuid NOT NULL,
    -- SHA-256 of the public key.
    key_hash {bytes} NOT NULL,
    issued_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    revoked_at bigint,
    -- Until when its holder may get another one without showing a valid one.
    next_until bigint
);
CREATE UNIQUE INDEX client_certificates_key ON client_certificates (tenant_id, key_hash);
CREATE INDEX client_certificates_tenant ON client_certificates (tenant_id, id);
CREATE INDEX client_certificates_holder ON client_certificates (holder_id);

CREATE TABLE agent_events (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    kind text NOT NULL,
    detail text,
    at bigint NOT NULL
);
CREATE INDEX agent_events_agent ON agent_events (agent_id, id);

CREATE TABLE telemetry_samples (
    agent_id uuid NOT NULL,
    at bigint NOT NULL,
    cpu_percent double precision,
    memory_percent double precision,
    disk_percent double precision,
    uptime_seconds double precision,
    load_1m double precision,
    running_executions double precision,
    PRIMARY KEY (agent_id, at)
);
CREATE INDEX telemetry_age ON telemetry_samples (at);

-- commands

CREATE TABLE commands (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    command text NOT NULL,
    data text NOT NULL,
    sealed_parameters {bytes},
    state text NOT NULL,
    end_reason text,
    requested_by uuid NOT NULL,
    requested_from text,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    timeout_ms bigint NOT NULL,
    lost_after_ms bigint NOT NULL,
    delivered_at bigint,
    started_at bigint,
    finished_at bigint,
    cancel_requested_at bigint,
    job_id uuid,
    wave integer,
    is_held boolean NOT NULL DEFAULT FALSE,
    -- Set for `execute` only.
    script text,
    trigger text NOT NULL DEFAULT 'api',
    is_indexed boolean NOT NULL DEFAULT FALSE,
    -- What an approver has signed about it: JSON.
    capsule text,
    -- Of an execution that is run again by itself: the first is attempt 1.
    attempt integer NOT NULL DEFAULT 1,
    -- The execution that it runs again, and the one that runs it again.
    retry_of uuid,
    retried_as uuid,
    -- The job of an attempt after which another one followed. Its `job_id` is null, so that a job has
    -- one execution for each agent.
    retried_job_id uuid,
    -- When the next attempt may be sent.
    not_before bigint,
    -- Of the commands of an agent with the same lock, one at a time is sent.
    lock_name text,
    -- It was requested with secret parameters, which are deleted at its end.
    has_secrets boolean NOT NULL DEFAULT FALSE,
    -- The id of the request that asked for it, for logs.
    request_id text,
    -- How far its steps are, as JSON; kept if it is lost.
    step_progress text,
    -- Of a run of a service: how much of its newest output is kept.
    max_log_bytes bigint
);
CREATE INDEX commands_retries ON commands (job_id, not_before)
    WHERE not_before IS NOT NULL AND finished_at IS NULL;
CREATE INDEX commands_locks ON commands (agent_id, lock_name, state)
    WHERE lock_name IS NOT NULL AND finished_at IS NULL;
CREATE INDEX commands_open ON commands (agent_id, id) WHERE finished_at IS NULL;
CREATE INDEX commands_expiry ON commands (expires_at) WHERE state = 'queued';
-- An index whose entries lie anywhere (by agent, by script) costs a page of its own for every
-- new command. So new commands are only in this small index, in the order of their ids, and
-- `index_history` adds them to the other history indexes in slices, many entries to a page.
CREATE INDEX commands_unindexed ON commands (tenant_id, id) WHERE NOT is_indexed;
-- The same condition in three wordings: SQLite uses a partial index only for a statement with
-- its very words, so each scan names its index by them and the planner cannot pick another.
CREATE INDEX commands_history ON commands (tenant_id, id) WHERE is_indexed;
CREATE INDEX commands_agent ON commands (tenant_id, agent_id, id) WHERE is_indexed = TRUE;
CREATE INDEX commands_script ON commands (tenant_id, script, id)
    WHERE is_indexed <> FALSE AND script IS NOT NULL;
-- Written once, when a command does not succeed; a success costs nothing.
CREATE INDEX commands_unsuccessful ON commands (tenant_id, state, id)
    WHERE finished_at IS NOT NULL AND state <> 'succeeded';
-- Serves counts by state and pages in the order of ids.
CREATE INDEX commands_job ON commands (job_id, state, id) WHERE job_id IS NOT NULL;
-- The starts of a service on an agent, to bound what the host reports.
CREATE INDEX commands_service_starts ON commands (agent_id, script, created_at) WHERE trigger = 'service';
-- Finds held and in-flight executions of a rollout without reading finished ones.
CREATE INDEX commands_rollout ON commands (job_id, is_held, wave, id, finished_at)
    WHERE wave IS NOT NULL AND finished_at IS NULL;
CREATE INDEX commands_wave ON commands (job_id, wave) WHERE wave IS NOT NULL;

CREATE TABLE command_reports (
    command_id uuid NOT NULL PRIMARY KEY,
    is_late boolean NOT NULL,
    outcome text NOT NULL,
    data text NOT NULL,
    error text,
    error_code text,
    reported_at bigint NOT NULL,
    -- What the agent signed, JSON with the document as text; null from basic agents.
    attestation text
);

CREATE TABLE idempotency_records (
    tenant_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    key text NOT NULL,
    request_hash {bytes} NOT NULL,
    command_id uuid NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, key)
);
CREATE INDEX idempotency_age ON idempotency_records (created_at);

CREATE TABLE jobs (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    script text NOT NULL,
    data text NOT NULL,
    secret_names json NOT NULL,
    target text NOT NULL,
    agent_count bigint NOT NULL,
    requested_by uuid NOT NULL,
    requested_from text,
    created_at bigint NOT NULL,
    state text NOT NULL DEFAULT 'running',
    finished_at bigint,
    stop text,
    webhook_url text,
    retry_of uuid,
    -- How often each execution is run again, JSON.
    retries text,
    lock_name text
);
CREATE INDEX jobs_tenant ON jobs (tenant_id, id);
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at IS NULL;

-- Which work waits for somebody else's yes.
CREATE TABLE approval_rules (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    condition json NOT NULL,
    wait_ms bigint NOT NULL,
    created_at bigint NOT NULL,
    created_by uuid NOT NULL
);
CREATE INDEX approval_rules_tenant ON approval_rules (tenant_id, id);

-- What work needs by the number and the tags of its agents.
CREATE TABLE ladders (
    tenant_id uuid NOT NULL PRIMARY KEY,
    steps json NOT NULL,
    changed_at bigint NOT NULL,
    changed_by uuid NOT NULL
);

CREATE TABLE approvals (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    state text NOT NULL,
    rules json NOT NULL,
    -- The work that waits: a job or a command.
    job_id uuid,
    command_id uuid,
    command text NOT NULL,
    script text,
    data text NOT NULL,
    agent_count bigint NOT NULL,
    pinned json NOT NULL,
    expires_in_ms bigint NOT NULL,
    requested_by uuid NOT NULL,
    requested_from text,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    decided_by uuid,
    decided_at bigint,
    reason text
);
CREATE INDEX approvals_tenant ON approvals (tenant_id, id);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';
CREATE INDEX approvals_job ON approvals (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX approvals_command ON approvals (command_id) WHERE command_id IS NOT NULL;

CREATE TABLE rollouts (
    job_id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    spec text NOT NULL,
    expires_in_ms bigint NOT NULL,
    wave integer NOT NULL,
    wave_count integer NOT NULL,
    offline_wave integer,
    wave_ended_at bigint,
    resumed_at bigint,
    gate_waived_wave integer,
    ignored_failures bigint NOT NULL,
    halt_reason text
);

CREATE TABLE output_chunks (
    command_id uuid NOT NULL,
    offset_bytes bigint NOT NULL,
    length_bytes bigint NOT NULL,
    stdout_offset_bytes bigint NOT NULL,
    stdout_bytes bigint NOT NULL,
    records {bytes} NOT NULL,
    file_bytes bigint NOT NULL DEFAULT 0,
    file_end_bytes bigint NOT NULL DEFAULT 0,
    checksum bigint NOT NULL DEFAULT 0,
    -- When it was received: marks of an offset and an instant.
    received {bytes} NOT NULL,
    PRIMARY KEY (command_id, offset_bytes)
);
-- Finds output to compact. Most commands have one short chunk, which is not in this index.
CREATE INDEX output_chunks_to_compact ON output_chunks (command_id)
    WHERE offset_bytes > 0 OR length_bytes > 4096;

CREATE TABLE output_blobs (
    command_id uuid NOT NULL PRIMARY KEY,
    generation bigint NOT NULL,
    length_bytes bigint NOT NULL,
    stdout_bytes bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    finished_at bigint NOT NULL,
    dropped_at bigint,
    received {bytes} NOT NULL,
    -- What was removed before the file: payload of both streams, and of stdout.
    start_bytes bigint NOT NULL DEFAULT 0,
    start_stdout_bytes bigint NOT NULL DEFAULT 0
);
CREATE INDEX output_blobs_age ON output_blobs (finished_at, stored_bytes) WHERE dropped_at IS NULL;

-- releases

CREATE TABLE releases (
    id uuid NOT NULL PRIMARY KEY,
    version text NOT NULL UNIQUE,
    manifest text NOT NULL,
    signature text NOT NULL,
    release_key text NOT NULL,
    created_at bigint NOT NULL,
    created_by uuid NOT NULL,
    published_at bigint,
    published_by uuid,
    withdrawn_at bigint
);
-- The release published last decides which key signs.
CREATE INDEX releases_published ON releases (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE release_key_changes (
    id uuid NOT NULL PRIMARY KEY,
    old_key text NOT NULL UNIQUE,
    new_key text NOT NULL UNIQUE,
    signature text NOT NULL,
    created_at bigint NOT NULL,
    created_by uuid NOT NULL
);

CREATE TABLE agent_groups (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    target text NOT NULL,
    desired_version text,
    wave_size text NOT NULL,
    max_failures text NOT NULL,
    healthy_for_ms bigint NOT NULL,
    state text NOT NULL,
    halt_reason text,
    generation bigint NOT NULL,
    wave integer NOT NULL,
    healthy_wave integer NOT NULL,
    requested_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX agent_groups_name ON agent_groups (tenant_id, name);

CREATE TABLE agent_updates (
    agent_id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    group_id uuid NOT NULL,
    generation bigint NOT NULL,
    wave integer NOT NULL,
    state text NOT NULL,
    command_id uuid NOT NULL,
    tries integer NOT NULL,
    due_at bigint NOT NULL,
    code text,
    message text,
    changed_at bigint NOT NULL,
    -- System, processor and service manager when the attempt started.
    cohort text NOT NULL,
    is_canary boolean NOT NULL,
    -- The no-op execution of a canary whose new version has registered. It may never have been stored.
    probe_command_id uuid
);
CREATE INDEX agent_updates_group ON agent_updates (group_id, agent_id);
-- The group reconciler asks which groups have agents in a state, even if most agents are done.
CREATE INDEX agent_updates_state ON agent_updates (state, group_id);

-- integrations

CREATE TABLE webhook_keys (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    sealed {bytes} NOT NULL,
    created_at bigint NOT NULL,
    valid_until bigint
);
-- A tenant has one present key, even if two callers ask for the first one at the same time.
CREATE UNIQUE INDEX webhook_keys_present ON webhook_keys (tenant_id) WHERE valid_until IS NULL;
CREATE INDEX webhook_keys_tenant ON webhook_keys (tenant_id, id);

CREATE TABLE integrations (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    -- Settings that are no secrets.
    shown json NOT NULL,
    -- All settings, sealed under the master key.
    sealed {bytes} NOT NULL,
    event_types json NOT NULL,
    -- A `TargetSpec`, JSON; null for every agent.
    target text,
    template text,
    is_enabled boolean NOT NULL,
    offline_after_ms bigint NOT NULL,
    -- Since when no message arrives. While it is set, one message is tried at a time.
    failing_since bigint,
    retry_at bigint,
    last_error text,
    -- Counts what was added to its queue. Whoever changes the queue locks this row.
    queue_changes bigint NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX integrations_name ON integrations (tenant_id, name);
CREATE INDEX integrations_tenant ON integrations (tenant_id, id);

-- The outbox: everything that leaves for a webhook of a job or for an integration.
CREATE TABLE deliveries (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    -- Null for the webhook of a job.
    integration_id uuid,
    job_id uuid,
    event text NOT NULL,
    -- Empty for an integration, whose settings are sealed.
    url text NOT NULL,
    host text NOT NULL,
    state text NOT NULL,
    created_at bigint NOT NULL,
    -- The place in the queue of an integration; not sent before.
    ready_at bigint NOT NULL,
    due_at bigint NOT NULL,
    give_up_at bigint NOT NULL,
    finished_at bigint,
    attempt_count integer NOT NULL,
    tries integer NOT NULL,
    attempts json NOT NULL,
    -- What the event is about, and what was known of it; null for the webhook of a job.
    subject_id uuid,
    data text,
    -- Events of a resource that are grouped, and how many this message stands for beside its own.
    group_key text,
    repeat_count integer NOT NULL
);
CREATE INDEX deliveries_tenant ON deliveries (tenant_id, id);
CREATE INDEX deliveries_job ON deliveries (job_id, id) WHERE job_id IS NOT NULL;
-- Read from its beginning: as small as what is pending, and enough to choose by. Of each integration
-- the first of the queue is pending.
CREATE INDEX deliveries_due ON deliveries (due_at, host, id) WHERE state = 'pending';
CREATE INDEX deliveries_state ON deliveries (tenant_id, state, id);
CREATE INDEX deliveries_integration ON deliveries (integration_id, id) WHERE integration_id IS NOT NULL;
CREATE INDEX deliveries_queue ON deliveries (integration_id, state, ready_at, id)
    WHERE integration_id IS NOT NULL;
CREATE INDEX deliveries_group ON deliveries (integration_id, subject_id, id)
    WHERE group_key IS NOT NULL;

-- Keys whose expiry was reported: each key once for each instant at which it expires.
CREATE TABLE key_notices (
    key_id uuid NOT NULL,
    expires_at bigint NOT NULL,
    tenant_id uuid NOT NULL,
    sent_at bigint NOT NULL,
    PRIMARY KEY (key_id, expires_at)
);
CREATE INDEX key_notices_tenant ON key_notices (tenant_id);

CREATE TABLE alert_rules (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    metric text NOT NULL,
    threshold double precision NOT NULL,
    clear_threshold double precision NOT NULL,
    for_ms bigint NOT NULL,
    clear_for_ms bigint NOT NULL,
    -- A `TargetSpec`, JSON.
    target text NOT NULL,
    is_enabled boolean NOT NULL,
    silenced_until bigint,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    -- Of the last check. A check that another server was faster with changes nothing.
    checked_at bigint NOT NULL,
    -- Null while it is disabled.
    check_at bigint
);
CREATE UNIQUE INDEX alert_rules_name ON alert_rules (tenant_id, name);
CREATE INDEX alert_rules_tenant ON alert_rules (tenant_id, id);
CREATE INDEX alert_rules_due ON alert_rules (check_at, id) WHERE check_at IS NOT NULL;

-- Since when it holds that opens or resolves an alert. Without a row it does not hold.
CREATE TABLE alert_states (
    rule_id uuid NOT NULL,
    -- The agent, or the rule itself for the agents of its target together.
    subject_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (rule_id, subject_id)
);
CREATE INDEX alert_states_tenant ON alert_states (tenant_id);

CREATE TABLE alerts (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    rule_id uuid NOT NULL,
    rule_name text NOT NULL,
    subject_id uuid NOT NULL,
    agent_id uuid,
    metric text NOT NULL,
    threshold double precision NOT NULL,
    value double precision NOT NULL,
    opened_at bigint NOT NULL,
    resolved_at bigint,
    end_reason text
);
-- However many servers check: a subject has one open alert of a rule.
CREATE UNIQUE INDEX alerts_open ON alerts (rule_id, subject_id) WHERE resolved_at IS NULL;
CREATE INDEX alerts_tenant ON alerts (tenant_id, id);
CREATE INDEX alerts_rule ON alerts (rule_id, id);

-- library

-- A script of the library. What it runs is in its versions.
CREATE TABLE scripts (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    folder text NOT NULL,
    tags json NOT NULL,
    description text NOT NULL,
    default_target text,
    current_version integer NOT NULL,
    latest_version integer NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX scripts_name ON scripts (tenant_id, name);
CREATE INDEX scripts_tenant ON scripts (tenant_id, id);

-- A version of a package. Rows never change. The archive is a file with the same id.
CREATE TABLE packages (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    -- JSON, byte for byte as hosts get it.
    document text NOT NULL,
    sha256 text NOT NULL,
    format text NOT NULL,
    archive_bytes bigint NOT NULL,
    unpacked_bytes bigint NOT NULL,
    entry_count bigint NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX packages_version ON packages (tenant_id, name, version);
CREATE INDEX packages_archive ON packages (tenant_id, sha256);
CREATE INDEX packages_tenant ON packages (tenant_id, id);

-- What publishers have signed about packages. The server can't make a row that a host accepts.
CREATE TABLE package_signatures (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    package_id uuid NOT NULL,
    publisher text NOT NULL,
    statement text NOT NULL,
    signature text NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX package_signatures_package ON package_signatures (package_id, publisher);
CREATE INDEX package_signatures_tenant ON package_signatures (tenant_id, id);

-- A file that was uploaded to be pushed to hosts. Its bytes are a file with the same id.
CREATE TABLE uploaded_files (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    -- Absent until all bytes are there and have this hash.
    completed_at bigint,
    -- When it is deleted, unless it is used again.
    expires_at bigint NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX uploaded_files_sha256 ON uploaded_files (tenant_id, sha256);
CREATE INDEX uploaded_files_tenant ON uploaded_files (tenant_id, id);
CREATE INDEX uploaded_files_expiry ON uploaded_files (expires_at);

-- A version of a package that is wanted on the agents of a target.
CREATE TABLE assignments (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    -- The package, or the version of the script.
    content_id uuid NOT NULL,
    -- Of the package or the script.
    content_name text NOT NULL,
    content_version text NOT NULL,
    kind text NOT NULL,
    -- JSON; null if the package has it, or has none.
    schedule text,
    target text NOT NULL,
    parameters text NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    -- Hosts may still report runs of an assignment that is deleted.
    deleted_at bigint
);
CREATE UNIQUE INDEX assignments_name ON assignments (tenant_id, name) WHERE deleted_at IS NULL;
CREATE INDEX assignments_tenant ON assignments (tenant_id, id);
CREATE INDEX assignments_content ON assignments (content_id) WHERE deleted_at IS NULL;

-- Versions of assignments that reach their agents in waves. A row is deleted when its rollout ends.
CREATE TABLE assignment_rollouts (
    assignment_id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    -- What agents have until their wave starts; null if the assignment is new.
    former_content_id uuid,
    former_version text,
    -- JSON.
    wave_size text NOT NULL,
    -- JSON.
    max_failures text NOT NULL,
    healthy_for_ms bigint NOT NULL,
    state text NOT NULL,
    halt_reason text,
    wave integer NOT NULL,
    healthy_wave integer NOT NULL,
    started_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE INDEX assignment_rollouts_tenant ON assignment_rollouts (tenant_id);
CREATE INDEX assignment_rollouts_former ON assignment_rollouts (former_content_id);

-- The agents that a wave has reached.
CREATE TABLE rollout_shares (
    assignment_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    wave integer NOT NULL,
    state text NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (assignment_id, agent_id)
);
CREATE INDEX rollout_shares_agent ON rollout_shares (agent_id);
CREATE INDEX rollout_shares_tenant ON rollout_shares (tenant_id);

-- What hosts report about their assignments.
CREATE TABLE assignment_states (
    agent_id uuid NOT NULL,
    assignment_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    version text NOT NULL,
    state text NOT NULL,
    error_code text,
    error text,
    skipped_count bigint NOT NULL,
    -- Of services: the state, and all that is reported.
    service_state text,
    service text,
    reported_at bigint NOT NULL,
    PRIMARY KEY (agent_id, assignment_id)
);
CREATE INDEX assignment_states_assignment ON assignment_states (assignment_id, agent_id);
CREATE INDEX assignment_states_tenant ON assignment_states (tenant_id);

-- Services that people have stopped or restarted on an agent. Without a row a service runs.
CREATE TABLE service_controls (
    assignment_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    is_stopped boolean NOT NULL,
    restart_requests bigint NOT NULL,
    changed_by uuid NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (assignment_id, agent_id)
);
CREATE INDEX service_controls_agent ON service_controls (agent_id);
CREATE INDEX service_controls_tenant ON service_controls (tenant_id);

-- Rows never change.
CREATE TABLE script_versions (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    script_id uuid NOT NULL,
    version integer NOT NULL,
    -- JSON, byte for byte as hosts get it and publishers sign it.
    document text NOT NULL,
    body_bytes bigint NOT NULL,
    message text NOT NULL,
    author_id uuid NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX script_versions_number ON script_versions (script_id, version);
CREATE INDEX script_versions_script ON script_versions (script_id, id);
CREATE INDEX script_versions_tenant ON script_versions (tenant_id, id);

-- The text of the version with the same id, apart because lists do not read it.
CREATE TABLE script_bodies (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    body text NOT NULL
);
CREATE INDEX script_bodies_tenant ON script_bodies (tenant_id, id);

-- What publishers have signed. The server can't make a row that a host accepts.
CREATE TABLE script_signatures (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    version_id uuid NOT NULL,
    publisher text NOT NULL,
    statement text NOT NULL,
    signature text NOT NULL,
    created_at bigint NOT NULL
);
CREATE UNIQUE INDEX script_signatures_version ON script_signatures (version_id, publisher);
CREATE INDEX script_signatures_tenant ON script_signatures (tenant_id, id);

-- schedules

CREATE TABLE schedules (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    rule text NOT NULL,
    starts_at bigint,
    ends_at bigint,
    job text NOT NULL,
    state text NOT NULL,
    stop_reason text,
    missed text NOT NULL,
    max_catch_up integer NOT NULL,
    late_limit_ms bigint NOT NULL,
    overlap text NOT NULL,
    jitter_ms bigint NOT NULL,
    owner_id uuid NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    -- All due times up to here have a row in `fires`, or are counted in one.
    handled_until bigint NOT NULL,
    -- Null unless it is active.
    next_due_at bigint,
    snoozed_until bigint,
    -- Where the result of each job is sent.
    webhook_url text,
    -- Secret parameters of its jobs, sealed under the master key, and their names.
    sealed_parameters {bytes},
    secret_names json NOT NULL
);
CREATE UNIQUE INDEX schedules_name ON schedules (tenant_id, name);
CREATE INDEX schedules_tenant ON schedules (tenant_id, id);
CREATE INDEX schedules_due ON schedules (next_due_at, id) WHERE next_due_at IS NOT NULL;

-- A due time is a row here before it is a job.
CREATE TABLE fires (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    due_at bigint NOT NULL,
    planned_at bigint NOT NULL,
    is_manual boolean NOT NULL,
    is_missed boolean NOT NULL,
    state text NOT NULL,
    reason text,
    detail text,
    job_id uuid,
    fired_at bigint,
    recorded_at bigint NOT NULL,
    omitted_before bigint NOT NULL,
    -- When to look at it next; null once it has a job or never will.
    look_at bigint
);
-- However many servers try, and however often: one fire for a due time.
CREATE UNIQUE INDEX fires_due ON fires (schedule_id, due_at);
CREATE INDEX fires_schedule ON fires (schedule_id, id);
CREATE INDEX fires_open ON fires (look_at, id) WHERE look_at IS NOT NULL;
CREATE INDEX fires_job ON fires (job_id) WHERE job_id IS NOT NULL;

-- What a schedule of a script with a trigger keeps for each agent.
CREATE TABLE trigger_states (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    data text NOT NULL,
    -- A call changes the data only if it still has the version that the call got.
    data_version bigint NOT NULL,
    data_changed_at bigint,
    call_count bigint NOT NULL,
    last_call_at bigint NOT NULL,
    last_command_id uuid NOT NULL,
    last_outcome text,
    last_outcome_at bigint
);
CREATE UNIQUE INDEX trigger_states_schedule ON trigger_states (schedule_id, agent_id);
CREATE INDEX trigger_states_agent ON trigger_states (agent_id);
CREATE INDEX trigger_states_tenant ON trigger_states (tenant_id, id);

CREATE TABLE calendars (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    entries text NOT NULL,
    target text,
    schedule_ids text NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL
);
CREATE UNIQUE INDEX calendars_name ON calendars (tenant_id, name);
CREATE INDEX calendars_tenant ON calendars (tenant_id, id);

CREATE TABLE hooks (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    authentication text NOT NULL,
    job text NOT NULL,
    parameters text NOT NULL,
    conditions text NOT NULL,
    replay_window_ms bigint NOT NULL,
    is_enabled boolean NOT NULL,
    owner_id uuid NOT NULL,
    created_by uuid NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    sealed {bytes} NOT NULL
);
CREATE UNIQUE INDEX hooks_name ON hooks (tenant_id, name);
CREATE INDEX hooks_tenant ON hooks (tenant_id, id);

CREATE TABLE hook_deliveries (
    id uuid NOT NULL PRIMARY KEY,
    tenant_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    -- Null if its sender gave nothing by which a repetition is known.
    delivery_key text,
    is_test boolean NOT NULL,
    state text NOT NULL,
    detail text,
    job_id uuid,
    source text,
    received_at bigint NOT NULL
);
-- However often it is sent: one delivery.
CREATE UNIQUE INDEX hook_deliveries_key ON hook_deliveries (hook_id, delivery_key);
CREATE INDEX hook_deliveries_hook ON hook_deliveries (hook_id, id);
CREATE INDEX hook_deliveries_tenant ON hook_deliveries (tenant_id, id);

-- operations

CREATE TABLE settings (
    name text NOT NULL PRIMARY KEY,
    value {bytes} NOT NULL
);

-- What a tenant stores, as last measured. The nil id is the server as a whole.
CREATE TABLE storage_usage (
    tenant_id uuid NOT NULL PRIMARY KEY,
    measured_at bigint NOT NULL,
    total_bytes bigint NOT NULL,
    -- What a quota counts: history and output.
    counted_bytes bigint NOT NULL,
    usage json NOT NULL
);

-- The same at the end of each day (UTC), for forecasts. Days are counted from 1970.
CREATE TABLE storage_days (
    tenant_id uuid NOT NULL,
    day bigint NOT NULL,
    total_bytes bigint NOT NULL,
    counted_bytes bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
);
CREATE INDEX storage_days_age ON storage_days (day);

-- The last request of a tenant to delete its old history. Any server deletes it.
CREATE TABLE storage_purges (
    tenant_id uuid NOT NULL PRIMARY KEY,
    history_before bigint NOT NULL,
    requested_by uuid NOT NULL,
    requested_at bigint NOT NULL,
    finished_at bigint
);
