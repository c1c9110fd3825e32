use super::*;

#[test]
fn only_owners_manage_api_keys() {
    assert!(Role::Owner.scopes().contains(&Scope::ApiKeysWrite));
    assert!(!Role::Admin.scopes().contains(&Scope::ApiKeysWrite));
    assert!(!Role::Member.scopes().contains(&Scope::ApiKeysWrite));
}

#[test]
fn members_run_scripts_but_manage_neither_agents_nor_the_work_of_others() {
    let member = Role::Member.scopes();
    assert!(member.contains(&Scope::CommandsRun));
    for managed in [Scope::AgentsManage, Scope::CommandsManage] {
        assert!(!member.contains(&managed));
        assert!(Role::Admin.scopes().contains(&managed));
        assert!(Role::Owner.scopes().contains(&managed));
    }
}

#[test]
fn auditors_read_everything_of_the_tenant_and_change_nothing() {
    let auditor = Role::Auditor.scopes();
    let reads = |scope: &Scope| scope.as_str().ends_with(":read") && !scope.is_operators();
    assert_eq!(auditor, Scope::ALL.into_iter().filter(reads).collect());
}

#[test]
fn no_role_of_a_tenant_has_rights_over_the_whole_server() {
    for role in [Role::Owner, Role::Admin, Role::Member, Role::Auditor] {
        for scope in [Scope::MetricsRead, Scope::ReleasesManage, Scope::TenantsManage] {
            assert!(!role.tenant_scopes().contains(&scope), "{role:?} has {scope}");
        }
    }
    assert!(Role::Owner.scopes().contains(&Scope::MetricsRead), "the operator's key has it");
}

#[test]
fn scope_names_agree_in_json_and_text() {
    for scope in Scope::ALL {
        assert_eq!(serde_json::to_value(scope).expect("plain"), scope.as_str());
        assert_eq!(scope.as_str().parse(), Ok(scope));
    }
}
