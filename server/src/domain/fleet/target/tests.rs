//! The expression language: what parses, what is refused, and with which message.

use proptest::prelude::*;
use uuid::Uuid;

use super::samples::{any_expression, any_facts, any_piece, facts, meeting_piece};
use super::*;

fn read(text: &str) -> Expression {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn tagged(name: &str, tags: &[&str]) -> Facts {
    Facts { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..facts(name) }
}

#[test]
fn expressions_match_the_agents_that_they_describe() {
    let web = Facts { is_online: false, ..tagged("web-1", &["web", "env:prod"]) };
    for (text, is_meant) in [
        ("all", true),
        ("tag:web & os:linux & !name:db-*", true),
        ("tag:web&os:linux&!name:web-*", false),
        ("tag:env:prod", true),
        ("tag:env:*", true),
        ("tag:WEB", false),
        ("tag:we", false),
        ("name:web-?", true),
        ("name:WEB-1", false),
        ("hostname:WEB-1.example", true),
        ("os:LINUX", true),
        ("os:\"linux 6.8.0*\"", true),
        ("os:6.8.0*", false),
        ("arch:X86_64", true),
        ("version:0.1.*", true),
        ("id:00000000-0000-0000-0000-000000000001", true),
        ("id:00000000-0000-0000-0000-000000000002", false),
        ("status:online", false),
        ("status:offline", true),
        ("level:full", true),
        ("level:basic", false),
        ("tag:db or tag:web", true),
        ("not tag:db and not(tag:other)", true),
        ("!(tag:db | tag:web)", false),
        ("!!tag:web", true),
        (" TAG:web AND\tNot tag:db\n", true),
        ("tag:web | tag:db & tag:db", true),
        ("(tag:web | tag:db) & tag:db", false),
        ("name:\"web-1\"", true),
        ("name:\"web-\\*\"", false),
    ] {
        assert_eq!(read(text).matches(&web), is_meant, "{text}");
    }
}

#[test]
fn facts_of_hosts_are_compared_by_name_and_any_of_their_values_matches() {
    let host = |pairs: &[(&str, &[&str])]| {
        let values = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        pairs.iter().map(|(name, texts)| ((*name).to_owned(), values(texts))).collect()
    };
    let debian = Facts {
        host: host(&[
            ("distribution", &["debian"]),
            ("addresses.eth0", &["10.0.0.5", "2001:db8::5"]),
            ("disks./var/lib.type", &["ext4"]),
            ("rack", &["A 7"]),
        ]),
        ..facts("web-1")
    };
    for (text, is_meant) in [
        ("fact:distribution=debian", true),
        ("FACT:distribution=DEB*", true),
        ("fact:Distribution=debian", false),
        ("fact:distribution!=debian", false),
        ("fact:distribution!=ubuntu", true),
        ("fact:missing!=x", true),
        ("!fact:missing=*", true),
        ("fact:distribution=*", true),
        ("fact:addresses.eth0=2001:db8::?", true),
        ("fact:addresses.eth0=10.0.0.*&!fact:addresses.eth0=192.*", true),
        ("fact:disks./var/lib.type=ext4", true),
        ("fact:rack=\"a 7\" | fact:rack=b", true),
        ("fact:rack=a", false),
    ] {
        assert_eq!(read(text).matches(&debian), is_meant, "{text}");
        assert!(Target::Expression(read(text)).needs_facts(), "{text}");
        assert_eq!(read(&read(text).to_string()), read(text));
    }
    let names = read("fact:b=1 & (!fact:a=2 | fact:b!=3) & tag:x").fact_names();
    assert_eq!(names, ["a".to_owned(), "b".to_owned()].into());
    // Limits and rules see an agent that reported nothing: a host can't move itself into them.
    let limit = read("fact:distribution=debian");
    assert!(!limit.matches_tags(debian.id, &debian.tags));
}

#[test]
fn errors_have_a_column_and_say_what_was_expected() {
    for (text, message) in [
        ("", "column 1: the expression is empty; use `all` for every agent"),
        ("  ", "column 3: the expression is empty; use `all` for every agent"),
        (
            "tag:web & ostype:linux",
            "column 11: unknown fact `ostype` (did you mean `os`?); use tag, name, hostname, \
             os, arch, version, id, status, level or fact",
        ),
        (
            "zone:eu",
            "column 1: unknown fact `zone`; use tag, name, hostname, os, arch, version, id, \
             status, level or fact",
        ),
        (
            "fact:",
            "column 6: expected a name after `fact:`, as in fact:distribution=debian, not the end",
        ),
        (
            "fact & all",
            "column 5: expected a name after `fact:`, as in fact:distribution=debian, not `&`",
        ),
        (
            "fact:.x=1",
            "column 6: expected a name after `fact:`, as in fact:distribution=debian, not .x",
        ),
        (
            "tag:a & fact:role",
            "column 18: expected `=` or `!=` and a value after `fact:role`, not the end",
        ),
        (
            "fact:role:db",
            "column 10: expected `=` or `!=` and a value after `fact:role`, not `:db`",
        ),
        (
            "fact:role= db",
            "column 11: expected a value after `fact:role=`, in \"…\" if it contains spaces, not `db`",
        ),
        ("fact:a=\"b", "column 8: this quote is not closed; expected `\"` at the end"),
        ("tag:web &", "column 10: expected a condition such as tag:web, not the end"),
        ("tag:web && tag:db", "column 10: expected a condition such as tag:web, not `&`"),
        ("| tag:web", "column 1: expected a condition such as tag:web, not `|`"),
        ("web-*", "column 1: `web-*` is not a condition; use tag:web-* or name:web-*"),
        ("tag:web tag:db", "column 9: expected `&` or `|` before `tag:db`"),
        ("tag:web adn tag:db", "column 9: expected `&` or `|` before `adn`"),
        ("(tag:web tag:db)", "column 10: expected `&` or `|` before `tag:db)`"),
        ("!(tag:web", "column 2: this bracket is not closed; expected `)` at the end"),
        ("tag:web)", "column 8: this bracket has no opening bracket"),
        (
            "tag:",
            "column 5: expected a value after `tag:`, in \"…\" if it contains spaces, not the end",
        ),
        (
            "tag: web",
            "column 5: expected a value after `tag:`, in \"…\" if it contains spaces, not `web`",
        ),
        (
            "tag & os:linux",
            "column 4: expected a value after `tag:`, in \"…\" if it contains spaces, not `&`",
        ),
        ("name:a,b", "column 7: a value that contains `,` needs quotes, as in name:\"my host\""),
        ("ü & name:\"b", "column 1: `ü` is not a condition; use tag:ü or name:ü"),
        ("name:ü & name:\"b", "column 15: this quote is not closed; expected `\"` at the end"),
        ("name:\"\\n\"", "column 7: a backslash must be followed by one of \\ \" * ?"),
        ("status:onlin", "column 8: `status` must be online or offline, not onlin"),
        ("level:*", "column 7: `level` must be full or basic, not *"),
        ("id:0*", "column 4: `id` must be a complete agent id, not 0*"),
    ] {
        let refused = text.parse::<Expression>().expect_err(text);
        assert_eq!(refused.to_string(), message, "{text}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let longest = format!("name:{}", "x".repeat(syntax::MAX_EXPRESSION_BYTES - 5));
    read(&longest);
    let longer = format!("{longest}x").parse::<Expression>().expect_err("too long");
    assert_eq!((longer.column, longer.problem), (4097, syntax::SyntaxProblem::TooLong));

    let facts =
        |count: usize| (0..count).map(|n| format!("fact:f{n}=1")).collect::<Vec<_>>().join(" | ");
    read(&facts(syntax::MAX_EXPRESSION_FACTS));
    let many = facts(syntax::MAX_EXPRESSION_FACTS + 1).parse::<Expression>();
    assert_eq!(many.expect_err("many").problem, syntax::SyntaxProblem::TooManyFacts);

    let nested = |depth| format!("{}all{}", "(".repeat(depth), ")".repeat(depth));
    read(&nested(syntax::MAX_EXPRESSION_DEPTH));
    for deep in [nested(65), "!".repeat(65) + "all", "not ".repeat(1000) + "all"] {
        let refused = deep.parse::<Expression>().expect_err("too deep");
        assert_eq!(refused.problem, syntax::SyntaxProblem::TooDeep);
    }
}

#[test]
fn only_ids_and_tags_need_no_facts() {
    for (text, needs_facts) in [
        ("tag:web", false),
        ("!tag:web | id:00000000-0000-0000-0000-000000000001", false),
        ("all", false),
        ("tag:web & !(tag:db | name:x)", true),
        ("status:online", true),
        ("fact:role=db", true),
        ("tag:web & !fact:role=db", true),
        ("level:full", true),
    ] {
        assert_eq!(Target::Expression(read(text)).needs_facts(), needs_facts, "{text}");
    }
    assert!(!Target::Tags(vec!["web".into()]).needs_facts());
    assert!(!Target::Ids(BTreeSet::new()).needs_facts());
}

#[test]
fn a_target_has_exactly_one_field_that_is_not_empty() {
    let ids = |count| Some(vec![AgentId(Uuid::nil()); count]);
    let tags = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
    let expression = || Some("all".to_owned());
    let spec = TargetSpec::default;
    for (refused, message) in [
        (spec(), "give exactly one"),
        (TargetSpec { ids: ids(1), expression: expression(), ..spec() }, "give exactly one"),
        (TargetSpec { ids: ids(0), ..spec() }, "`ids` is empty"),
        (TargetSpec { ids: ids(MAX_IDS + 1), ..spec() }, "has 10001 ids"),
        (TargetSpec { tags: tags(&[]), ..spec() }, "`tags` is empty"),
        (TargetSpec { tags: tags(&["a"; 65]), ..spec() }, "`tags` has 65 tags"),
        (TargetSpec { tags: tags(&["web-*"]), ..spec() }, "use an expression"),
        (TargetSpec { expression: Some("tag".into()), ..spec() }, "column 4"),
    ] {
        let error = Target::try_from(refused).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
    }
    let once = Target::try_from(TargetSpec { ids: ids(MAX_IDS), ..spec() });
    assert_eq!(once, Ok(Target::Ids([AgentId(Uuid::nil())].into())));
}

#[test]
fn all_tags_must_match_and_unknown_ids_are_reported() {
    let known = [tagged("one", &["web", "eu"]), tagged("two", &["web"])];
    let tags = Target::Tags(vec!["eu".into(), "web".into()]);
    let choose = |target: &Target| {
        let mut chosen = Chosen::by(target);
        known.iter().for_each(|facts| chosen.consider(target, facts.clone()));
        chosen
    };
    let chosen = choose(&tags);
    assert_eq!((chosen.agents, chosen.unknown_ids), (known[..1].to_vec(), [].into()));

    let (mine, other) = (known[0].id, AgentId(Uuid::from_u128(7)));
    let ids = Target::Ids([mine, other].into());
    let expression = Target::Expression(read(&format!("id:{other} | name:one")));
    for (target, count) in [(ids, 2), (expression, 1)] {
        let chosen = choose(&target);
        assert_eq!((chosen.agents.len(), chosen.unknown_ids), (count, [other].into()));
    }
}

proptest! {
    #[test]
    fn a_printed_expression_parses_to_an_equal_one(expression in any_expression(any_piece())) {
        let text = expression.to_string();
        prop_assert_eq!(text.parse(), Ok(expression), "{}", text);
    }

    #[test]
    fn any_text_parses_or_is_refused_at_a_column_within_it(text in any::<String>()) {
        lies_within(&text)?;
    }

    #[test]
    fn any_tokens_parse_or_are_refused_at_a_column_within_them(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..40),
    ) {
        lies_within(&words.concat())?;
    }

    #[test]
    fn brackets_and_negations_follow_boolean_algebra(
        one in any_expression(meeting_piece()),
        two in any_expression(meeting_piece()),
        three in any_expression(meeting_piece()),
        facts in any_facts(),
    ) {
        for (left, right) in [
            (format!("!(({one}) & ({two}))"), format!("!({one}) | !({two})")),
            (format!("!(({one}) | ({two}))"), format!("!({one}) & !({two})")),
            (format!("!!({one})"), format!("{one}")),
            (format!("({one}) | ({two}) & ({three})"), format!("({one}) | (({two}) & ({three}))")),
            (format!("({one}) & (({two}) | ({three}))"), format!("({one}) & ({two}) | ({one}) & ({three})")),
            (format!("({one}) or not ({two})"), format!("({one})|!({two})")),
        ] {
            prop_assert_eq!(read(&left).matches(&facts), read(&right).matches(&facts), "{}", left);
        }
    }
}

const WORDS: [&str; 27] = [
    "fact:",
    "a=",
    "!=",
    "tag:",
    "name:",
    "id:",
    "status:",
    "level:full",
    "all",
    "not ",
    "and",
    " or ",
    "!",
    "&",
    "|",
    "(",
    ")",
    "\"",
    "\\",
    "*",
    "?",
    "web",
    "ü",
    " ",
    "\n",
    "online",
    ",",
];

fn lies_within(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = text.parse::<Expression>() {
        prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error);
        prop_assert!(error.to_string().chars().count() < 250, "{}", error);
    }
    Ok(())
}

#[test]
fn null_is_refused_as_a_field_of_a_target() {
    for field in ["ids", "tags", "expression"] {
        let spec = serde_json::json!({"expression": "os:linux", field: null});
        let error = serde_json::from_value::<TargetSpec>(spec).expect_err("null selects nothing");
        assert!(error.to_string().contains("invalid type: null"), "{field}: {error}");
    }
}
