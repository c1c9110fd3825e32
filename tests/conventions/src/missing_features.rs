//! The lists of what is not available name no feature that the documentation describes.

use crate::sources;

/// The pages with such lists.
const PAGES: [&str; 2] = ["README.md", "docs/MIGRATING.md"];
/// What a list follows: a heading of its own, or these words at its beginning.
const HEADING: &str = "## Not available yet";
const MARK: &str = "**Not available yet:**";
/// How an item of such a list begins if it names a feature, and the page that describes the feature.
const FEATURES: [(&str, &str); 46] = [
    ("alert", "docs/ALERTS.md"),
    ("alerts", "docs/ALERTS.md"),
    ("automated tasks", "docs/SCHEDULES.md"),
    ("backup", "docs/BACKUP.md"),
    ("calendars", "docs/CALENDARS.md"),
    ("container images", "docs/DOCKER.md"),
    ("dashboard", "docs/DASHBOARD.md"),
    ("datadog", "docs/INTEGRATIONS.md"),
    ("dependencies", "docs/LIBRARY.md"),
    ("discord", "docs/INTEGRATIONS.md"),
    ("editor", "docs/DASHBOARD.md"),
    ("email", "docs/INTEGRATIONS.md"),
    ("freezes", "docs/CALENDARS.md"),
    ("hooks", "docs/HOOKS.md"),
    ("integration", "docs/INTEGRATIONS.md"),
    ("integrations", "docs/INTEGRATIONS.md"),
    ("library", "docs/LIBRARY.md"),
    ("library of scripts", "docs/LIBRARY.md"),
    ("maintenance windows", "docs/CALENDARS.md"),
    ("microsoft teams", "docs/INTEGRATIONS.md"),
    ("pagerduty", "docs/INTEGRATIONS.md"),
    ("password reset", "docs/ACCOUNTS.md"),
    ("registration", "docs/ACCOUNTS.md"),
    ("requirements.txt", "docs/LIBRARY.md"),
    ("retries", "docs/RUNNING.md"),
    ("rollouts", "docs/ROLLOUTS.md"),
    ("scheduled tasks", "docs/SCHEDULES.md"),
    ("schedules", "docs/SCHEDULES.md"),
    ("script library", "docs/LIBRARY.md"),
    ("scripts on the server", "docs/LIBRARY.md"),
    ("second factor", "docs/ACCOUNTS.md"),
    ("signed results", "docs/SECURITY.md"),
    ("single sign-on", "docs/SSO.md"),
    ("slack", "docs/INTEGRATIONS.md"),
    ("splunk", "docs/INTEGRATIONS.md"),
    ("sso", "docs/SSO.md"),
    ("tags", "docs/TARGETS.md"),
    ("target expressions", "docs/TARGETS.md"),
    ("teams", "docs/INTEGRATIONS.md"),
    ("triggers", "docs/LIBRARY.md"),
    ("two-factor", "docs/ACCOUNTS.md"),
    ("updates", "docs/RELEASES.md"),
    ("waves", "docs/ROLLOUTS.md"),
    ("web interface", "docs/DASHBOARD.md"),
    ("webhooks", "docs/WEBHOOKS.md"),
    ("webhooks that start jobs", "docs/HOOKS.md"),
];
/// Parts of these features that are missing, as the lists name them.
const MISSING_PARTS: [&str; 1] = ["single sign-on that a tenant configures itself"];

/// The paragraphs of a page that list what is not available, each as one line.
fn lists(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_below_heading = false;
    for block in page.split("\n\n") {
        let text = block.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.starts_with("## ") {
            is_below_heading = text == HEADING;
        } else if let Some((_, list)) = text.split_once(MARK) {
            found.push(list.to_owned());
        } else if is_below_heading {
            found.push(text);
        }
    }
    found
}

/// The words of a text in lower case, without an article at its beginning.
fn words(text: &str) -> Vec<String> {
    let is_separator = |c: char| !c.is_alphanumeric() && c != '-' && c != '.';
    text.split(is_separator)
        .map(|word| word.trim_matches('.').to_lowercase())
        .filter(|word| !word.is_empty())
        .skip_while(|word| ["a", "an", "the"].contains(&word.as_str()))
        .collect()
}

/// What the first sentence of a list names. Other sentences say what to use meanwhile.
fn items(list: &str) -> Vec<Vec<String>> {
    let sentence = list.split(". ").next().unwrap_or_default();
    let separated = sentence.replace(" and ", ", ").replace(" or ", ", ");
    let items = separated.split([',', ';', ':', '(']).map(words);
    items.filter(|item| !item.is_empty()).collect()
}

fn problem(path: &str, item: &[String]) -> Option<String> {
    if MISSING_PARTS.iter().any(|part| words(part) == item) {
        return None;
    }
    let (_, known) = FEATURES.iter().find(|(name, _)| item.starts_with(&words(name)))?;
    Some(format!("{path}: \"{}\" is available: {known} describes it", item.join(" ")))
}

fn items_of_page(page: &str) -> Vec<Vec<String>> {
    lists(page).iter().flat_map(|list| items(list)).collect()
}

#[test]
fn no_feature_with_a_page_is_listed_as_not_available() {
    for (name, page) in FEATURES {
        assert!(sources::root().join(page).is_file(), "FEATURES: {page} of \"{name}\" is missing");
    }
    let mut problems = Vec::new();
    let mut all_items = Vec::new();
    for path in PAGES {
        let found = items_of_page(&sources::read(path));
        assert!(!found.is_empty(), "the lists of {path} moved: this test reads nothing");
        problems.extend(found.iter().filter_map(|item| problem(path, item)));
        all_items.extend(found);
    }
    assert!(all_items.len() > 20, "the lists changed: this test reads only {all_items:?}");
    assert!(
        problems.is_empty(),
        "remove these from the lists, or add the part that is missing to MISSING_PARTS in {}:\n{}",
        file!(),
        problems.join("\n")
    );
    for part in MISSING_PARTS {
        assert!(all_items.contains(&words(part)), "MISSING_PARTS: no page lists \"{part}\"");
    }
}

#[test]
fn a_feature_in_a_list_is_found_and_a_part_of_it_is_not() {
    let page = "Slack.\n\n**Not available yet:** a dashboard\nwith an editor, states, SSO, and the \
                integrations with Slack, Discord.\nUntil then, use schedules.\n\n## Not available yet\n\n\
                Passkeys and triggers (`requirements.txt`).\n\n## Next\n\nHooks.\n";
    let found: Vec<_> = items_of_page(page).iter().filter_map(|item| problem("p", item)).collect();
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(
        found[0],
        "p: \"dashboard with an editor\" is available: docs/DASHBOARD.md describes it"
    );
    let page = "**Not available yet:** single sign-on that a tenant configures itself, services in the \
                library, and\nagents for Windows.\n";
    let items = items_of_page(page);
    assert_eq!(items.len(), 3);
    assert!(items.iter().all(|item| problem("p", item).is_none()));
}
