use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct RunCommandLine {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &[&str]) -> Result<Args, clap::Error> {
    let line = std::iter::once(&"run").chain(line);
    RunCommandLine::try_parse_from(line).map(|parsed| parsed.args)
}

fn args(line: &[&str]) -> Args {
    parse(line).expect("a valid command line")
}

#[test]
fn parameter_value_is_everything_after_the_first_equals_sign() {
    let args = args(&["web-1", "deploy", "URL=https://a/?b=c", "EMPTY=", "--timeout-ms", "5"]);
    assert_eq!(
        args.data().unwrap(),
        json!({"script": "deploy", "timeout_ms": 5,
               "parameters": {"URL": "https://a/?b=c", "EMPTY": ""}})
    );
}

#[test]
fn with_on_or_tag_the_first_word_is_the_script() {
    let one = args(&["--on", "tag:web", "deploy", "A=1"]);
    assert_eq!(one.data().unwrap(), json!({"script": "deploy", "parameters": {"A": "1"}}));
    assert!(
        matches!(one.target().unwrap().0, RunTarget::ManyAgents(target) if target == json!({"expression": "tag:web"}))
    );
    let tagged = args(&["--tag", "web", "--tag", "eu", "deploy"]);
    assert!(
        matches!(tagged.target().unwrap().0, RunTarget::ManyAgents(target) if target == json!({"tags": ["web", "eu"]}))
    );
    assert!(parse(&["--on", "all", "--tag", "web", "deploy"]).is_err());
    assert_eq!(args(&["web-1"]).data().unwrap_err().exit_code(), 2);
}

#[test]
fn rollout_options_become_the_rollout_of_the_job() {
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
    assert!(parse(&["--tag", "web", "--pause", "30s", "deploy"]).is_err());
}

#[test]
fn words_after_two_dashes_are_a_command_and_stay_unchanged() {
    let one = args(&["web-1", "-p", "A=1", "--", "ls", "-l", "--", "$HOME"]);
    assert!(matches!(one.target().unwrap().0, RunTarget::OneAgent("web-1")));
    let expected = json!({"argv": ["ls", "-l", "--", "$HOME"], "parameters": {"A": "1"}});
    assert_eq!(one.data().unwrap(), expected);
    let many = args(&["--on", "all", "--", "uname"]);
    assert_eq!(many.data().unwrap()["argv"], json!(["uname"]));
    for line in [&["--", "uname"][..], &["web-1", "deploy", "--", "uname"]] {
        assert_eq!(args(line).data().unwrap_err().exit_code(), 2, "{line:?}");
    }
    assert!(parse(&[]).is_err());
}

#[test]
fn parameters_follow_the_script_or_the_parameter_option() {
    let args = args(&["-p", "A=1", "web-1", "deploy", "B=2", "--parameter", "C=3"]);
    assert_eq!(args.data().unwrap()["parameters"], json!({"A": "1", "B": "2", "C": "3"}));
}

#[test]
fn invalid_parameters_are_refused_before_a_request() {
    for line in [
        ["web-1", "deploy", "A=1", "NOVALUE"],
        ["web-1", "deploy", "A=1", "A=2"],
        ["web-1", "deploy", "B=1", "LD_PRELOAD=x"],
    ] {
        assert_eq!(args(&line).data().unwrap_err().exit_code(), 2, "{line:?}");
    }
}
