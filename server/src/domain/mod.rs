//! Pure rules. They know no database, sockets or clock of their own.

/// Access control: credentials, people, principals, scopes.
pub mod access {
    pub mod allowance;
    pub mod audit;
    pub mod audit_actions;
    pub mod credential;
    pub mod mail_retry;
    pub mod principal;
    pub mod records;
    pub mod same_person;
    /// People: accounts, sessions, members and invitations.
    pub mod people {
        pub mod access_token;
        pub mod email;
        pub mod oidc_provider;
        pub mod passkey;
        pub mod password;
        pub mod refresh_token;
        pub mod totp;
        pub mod user_code;
        pub mod verification_code;
    }
    /// Keys: API keys and agent keys.
    pub mod keys {
        pub mod key_limits;
        pub mod key_rights;
    }
    /// Tenants: plans, export and deletion.
    pub mod tenants {
        pub mod plan;
        pub mod tenant;
    }
}
/// Certificates: names, validity, pins, clients.
pub mod certificates {
    pub mod client_certificate;
    pub mod names;
    pub mod pin;
    pub mod rollover;
    pub mod validity;
}
/// Commands, jobs, rollouts, executions and their output.
pub mod commands {
    pub mod approval;
    pub mod command_state;
    pub mod end_reason;
    pub mod job_state;
    pub mod ladder;
    pub mod lock;
    pub mod offline_policy;
    pub mod open_state;
    pub mod output_event;
    pub mod output_search;
    pub mod preview;
    pub mod range;
    pub mod received;
    pub mod records;
    pub mod retries;
    pub mod rollout;
    pub mod trigger;
    pub mod work;
}
pub mod field_error;
/// Agents, their manifests and targets.
pub mod fleet {
    pub mod agent;
    pub mod forbidden_commands;
    pub mod records;
    pub mod reported_facts;
    pub mod reported_manifest;
    pub mod target;
}
pub mod ids;
/// The event feed, webhooks, and integrations.
pub mod integrations {
    pub mod alert;
    pub mod event_type;
    pub mod formats;
    pub mod grouping;
    pub mod integration;
    pub mod records;
    pub mod tenant_event;
    pub mod webhook;
}
/// The library's scripts and their versions.
pub mod library {
    pub mod assignment_records;
    pub mod assignment_rollout;
    pub mod difference;
    pub mod package_records;
    pub mod records;
    pub mod rules;
    pub mod uploaded_file;
}
pub mod name;
/// Operations of the server itself.
pub mod operations {
    pub mod master_key;
    pub mod storage;
}
pub mod origin;
pub mod outbound;
pub mod page;
/// Releases of agent and supervisor, and the groups that follow them.
pub mod releases {
    pub mod group;
    pub mod newest_release;
    pub mod records;
}
/// Schedules, their due times and their fires.
pub mod schedules {
    pub mod calendar;
    #[cfg(test)]
    mod calendar_tests;
    pub mod cron;
    #[cfg(test)]
    mod cron_tests;
    pub mod duration;
    pub mod fire;
    pub mod hook;
    pub mod policy;
    pub mod records;
    pub mod rule;
    pub mod rule_error;
    mod sentence;
    pub mod simulation;
    pub mod trigger_call;
}
pub mod restore_note;
pub mod secret_box;
pub mod source;
pub mod time;
pub mod waves;
