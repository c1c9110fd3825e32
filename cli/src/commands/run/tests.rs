//! What may be typed behind `muster run`.

use super::*;
use crate::cli::Action;
use crate::commands::parse;

fn args(line: &[&str]) -> Args {
    let line: Vec<_> = std::iter::once(&"run").chain(line).copied().collect();
    let Action::Run(args) = parse(&line).unwrap().action else { panic!("not a run: {line:?}") };
    args
}

#[test]
fn parameters_keep_everything_behind_the_first_equals_sign() {
    let args = args(&["web-1", "deploy", "URL=https://a/?b=c", "EMPTY=", "--timeout-ms", "5"]);
    assert_eq!(
        args.data().unwrap(),
        json!({"script": "deploy", "timeout_ms": 5,
               "parameters": {"URL": "https://a/?b=c", "EMPTY": ""}})
    );
}

#[test]
fn with_a_target_the_first_word_is_the_script() {
    let one = args(&["--on", "tag:web", "deploy", "A=1"]);
    assert_eq!(one.data().unwrap(), json!({"script": "deploy", "parameters": {"A": "1"}}));
    assert!(
        matches!(one.who().unwrap().0, Who::Many(target) if target == json!({"expression": "tag:web"}))
    );
    let tagged = args(&["--tag", "web", "--tag", "eu", "deploy"]);
    assert!(
        matches!(tagged.who().unwrap().0, Who::Many(target) if target == json!({"tags": ["web", "eu"]}))
    );
    assert!(parse(&["run", "--on", "all", "--tag", "web", "deploy"]).is_err());
    assert_eq!(args(&["web-1"]).data().unwrap_err().exit_code(), 2);
}

#[test]
fn a_rollout_stands_on_the_command_line() {
    let line = [
        "--tag",
        "web",
        "--wave",
        "10%",
        "--pause",
        "30s",
        "--max-failures",
        "5%",
        "--whole-waves",
        "--healthy-for",
        "1m",
        "--healthy-within",
        "5m",
        "--offline",
        "skip",
        "deploy",
    ];
    assert_eq!(
        args(&line).rollout.body().unwrap(),
        json!({"wave_size": "10%", "pause_ms": 30_000, "max_failures": "5%",
               "count_in_flight": false, "offline": "skip",
               "health_gate": {"online": true, "for_ms": 60_000, "within_ms": 300_000}})
    );
    assert_eq!(args(&["--tag", "web", "deploy"]).rollout.body(), None);
    assert!(parse(&["run", "--tag", "web", "--pause", "30s", "deploy"]).is_err());
}

#[test]
fn what_stands_behind_two_dashes_is_a_command_as_it_stands() {
    let one = args(&["web-1", "-p", "A=1", "--", "ls", "-l", "--", "$HOME"]);
    assert!(matches!(one.who().unwrap().0, Who::One("web-1")));
    let expected = json!({"argv": ["ls", "-l", "--", "$HOME"], "parameters": {"A": "1"}});
    assert_eq!(one.data().unwrap(), expected);
    let many = args(&["--on", "all", "--", "uname"]);
    assert_eq!(many.data().unwrap()["argv"], json!(["uname"]));
    for line in [&["--", "uname"][..], &["web-1", "deploy", "--", "uname"]] {
        assert_eq!(args(line).data().unwrap_err().exit_code(), 2, "{line:?}");
    }
    assert!(parse(&["run"]).is_err());
}

#[test]
fn parameters_stand_behind_the_script_or_where_they_are_announced() {
    let args = args(&["-p", "A=1", "web-1", "deploy", "B=2", "--parameter", "C=3"]);
    assert_eq!(args.data().unwrap()["parameters"], json!({"A": "1", "B": "2", "C": "3"}));
}

#[test]
fn parameters_that_no_host_would_take_are_refused_here() {
    for line in [
        ["web-1", "deploy", "A=1", "NOVALUE"],
        ["web-1", "deploy", "A=1", "A=2"],
        ["web-1", "deploy", "B=1", "LD_PRELOAD=x"],
    ] {
        assert_eq!(args(&line).data().unwrap_err().exit_code(), 2, "{line:?}");
    }
}
