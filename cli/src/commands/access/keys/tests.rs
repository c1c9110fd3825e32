use clap::Parser;

use super::*;

#[derive(Parser)]
struct KeysCommandLine {
    #[command(flatten)]
    create: Create,
}

#[derive(Parser)]
struct SetLine {
    #[command(flatten)]
    changes: AgentKeyChanges,
}

fn change(line: &[&str]) -> Option<Value> {
    let line = SetLine::try_parse_from(std::iter::once(&"set").chain(line)).ok()?;
    Some(line.changes.body(&Permissions::new([CommandName::Ping, CommandName::Execute])))
}

#[test]
fn permissions_are_replaced_or_added_and_removed_one_by_one() {
    let set = |line: &[&str]| change(line).expect("a valid command line");
    assert_eq!(
        set(&["--add-permission", "update", "--remove-permission", "ping"]),
        json!({"permissions": ["execute", "update"]})
    );
    assert_eq!(set(&["--permission", "ping"]), json!({"permissions": ["ping"]}));
    assert_eq!(
        set(&["--name", "front", "--max-agents", "3", "--trusts-holders", "true"]),
        json!({"name": "front", "max_agents": 3, "trusts_holders": true})
    );
    assert_eq!(
        set(&["--tag", "eu", "--expires", "2027-01-31"]),
        json!({"tags": ["eu"], "expires_at": "2027-01-31T00:00:00.000Z"})
    );
    assert_eq!(set(&["--no-tags", "--expires", "never"]), json!({"tags": [], "expires_at": null}));
    assert_eq!(change(&[]), None, "nothing to change");
    assert_eq!(change(&["--permission", "ping", "--add-permission", "update"]), None);
    assert_eq!(
        body(&["fleet", "--add-permission", "update"])["permissions"],
        json!(["ping", "info", "echo", "scripts", "execute", "update"])
    );
}

fn body(line: &[&str]) -> Value {
    let line = std::iter::once(&"create").chain(line);
    KeysCommandLine::try_parse_from(line).expect("a valid command line").create.body()
}

#[test]
fn create_sends_only_the_given_options() {
    assert_eq!(body(&["fleet"]), json!({"name": "fleet"}));
    let line = [
        "fleet",
        "--permission",
        "ping",
        "--permission",
        "execute",
        "--tag",
        "eu",
        "--max-agents",
        "3",
        "--expires-at",
        "2027-01-31T00:00:00Z",
    ];
    assert_eq!(
        body(&line),
        json!({"name": "fleet", "permissions": ["ping", "execute"], "tags": ["eu"],
               "max_agents": 3, "expires_at": "2027-01-31T00:00:00.000Z"})
    );
}

#[test]
fn install_line_names_the_address_of_this_program_and_never_leaves_https() {
    let line = |server: &str| install_line(&Url::parse(server).unwrap(), "mst_agent_x");
    assert_eq!(
        line("https://m.example/base/").unwrap(),
        "curl --proto '=https' --proto-redir '=https' -fsSL https://m.example/base/install/deploy.sh | sudo sh -s -- --server https://m.example/base --key mst_agent_x"
    );
    assert!(line("http://127.0.0.1:8080").unwrap().starts_with("curl -fsSL http://127.0.0.1"));
    for unsafe_server in ["http://m.example", "https://m.example/$(id)", "https://m.example/'"] {
        assert_eq!(line(unsafe_server), None, "{unsafe_server}");
    }
}

#[test]
fn permission_that_is_no_command_is_refused_before_a_request() {
    let line = ["create", "fleet", "--permission", "everything"];
    assert!(KeysCommandLine::try_parse_from(line).is_err());
}
