//! Templates of people for the text of a message: no loader, strict about unknown names, and bounded in
//! steps, in the time of a step, in the size of a text and in what is written.

mod syntax;

use std::io;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::domain::integrations::formats::EventMessage;
use crate::domain::integrations::integration::MAX_TEMPLATE_BYTES;

/// Steps of a rendering.
const MAX_TEMPLATE_STEPS: u64 = 20_000;
/// Longest text that a template writes.
const MAX_RENDERED_BYTES: usize = 4_096;
/// Longest text that a filter of a template takes.
const MAX_FILTERED_BYTES: usize = 4_096;
const NAME: &str = "template";

/// A template that cannot be used. The text continues the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("must be at most {MAX_TEMPLATE_BYTES} bytes long")]
    TooLong,
    #[error("is invalid: {0}")]
    Invalid(String),
    #[error("has {what}{}, which is not allowed", in_line(*line))]
    NotAllowed { what: &'static str, line: u16 },
    #[error("writes more than {MAX_RENDERED_BYTES} bytes or takes too many steps")]
    TooMuch,
}

/// Checks that a template can be read.
///
/// # Errors
/// [`TemplateError`].
pub fn check(source: &str) -> Result<(), TemplateError> {
    environment(source).map(|_| ())
}

/// The text of a message.
///
/// # Errors
/// [`TemplateError`], also for a name that the event does not have.
pub fn render(source: &str, message: &EventMessage) -> Result<String, TemplateError> {
    let environment = environment(source)?;
    let template = environment.get_template(NAME).map_err(|error| invalid(&error))?;
    let mut written = BoundedText::default();
    let result =
        template.render_captured_to(Value::from(Serde(context(message))), &mut written).map(|_| ());
    match result {
        Ok(()) => Ok(String::from_utf8_lossy(&written.0).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) => {
            Err(TemplateError::TooMuch)
        }
        Err(error) => Err(invalid(&error)),
    }
}

/// What a template may name: `type`, `title`, `timestamp`, `link` and `data`.
fn context(message: &EventMessage) -> serde_json::Value {
    serde_json::json!({
        "type": message.event,
        "title": message.title,
        "timestamp": message.at,
        "link": message.link,
        "data": message.data,
    })
}

fn environment(source: &str) -> Result<Environment<'_>, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLong);
    }
    // Before the engine compiles it, which evaluates what is constant.
    syntax::check(source, NAME).map_err(|error| match error {
        syntax::SyntaxError::Unreadable(error) => invalid(&error),
        syntax::SyntaxError::NotAllowed { what, line } => TemplateError::NotAllowed { what, line },
    })?;
    // Without other filters and functions, of which some build large values in one step.
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MAX_TEMPLATE_STEPS));
    environment.add_filter("upper", |value: Value| filtered(&value, str::to_uppercase));
    environment.add_filter("lower", |value: Value| filtered(&value, str::to_lowercase));
    environment.add_template(NAME, source).map_err(|error| invalid(&error))?;
    Ok(environment)
}

fn invalid(error: &Error) -> TemplateError {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    TemplateError::Invalid(format!("{}{line}", error.detail().unwrap_or("it can't be read")))
}

fn in_line(line: u16) -> String {
    match line {
        0 => String::new(),
        line => format!(" in line {line}"),
    }
}

/// Filters take short texts only: the engine counts one step for each, however much it is.
fn filtered(value: &Value, change: fn(&str) -> String) -> Result<String, Error> {
    let text = value.as_str().filter(|text| text.len() <= MAX_FILTERED_BYTES);
    let problem = "`upper` and `lower` take a text of at most 4,096 bytes";
    text.map(change).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, problem))
}

/// Fails when more is written than it holds.
#[derive(Default)]
struct BoundedText(Vec<u8>);

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED_BYTES {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::integrations::event_type::EventType;
    use crate::domain::time::Timestamp;
    use serde_json::json;

    fn rendered(source: &str) -> Result<String, TemplateError> {
        let head = ("1".to_owned(), EventType::AgentOffline, Timestamp(0), uuid::Uuid::nil());
        let data = json!({"agent": {"name": "<web>", "tags": ["a", "b"]}});
        render(source, &EventMessage::new(head, data, &[], 0, None))
    }

    #[test]
    fn template_names_what_the_event_has() {
        let source = "{{ type }}: {{ data.agent.name }}{% for tag in data.agent.tags %} {{ tag|upper }}{% endfor %}";
        assert_eq!(rendered(source).expect("a text"), "agent.offline: <web> A B");
    }

    #[test]
    fn template_compares_with_what_is_written_out() {
        let source = "{% if data.agent.name == '<web>' and not (data.agent.tags[0] != 'a') %}yes{% else %}no{% endif %}";
        assert_eq!(rendered(source).expect("a text"), "yes");
        let choice = "{{ 'one' if data.agent.tags[1] == 'b' else 'two' }}";
        assert_eq!(rendered(choice).expect("a text"), "one");
    }

    #[test]
    fn template_is_refused_for_unknown_names_and_more_than_its_bounds() {
        for invalid in ["{{ nothing }}", "{{ data.agent.x }}", "{{", "{{ data.agent.tags|upper }}"]
        {
            assert!(matches!(rendered(invalid), Err(TemplateError::Invalid(_))), "{invalid}");
        }
        let steps = "{% for a in 'xxxxxxxxxxxxxxxxxxxx' %}{% for b in 'xxxxxxxxxxxxxxxxxxxx' %}\
            {% for c in 'xxxxxxxxxxxxxxxxxxxx' %}{% for d in 'xxxxxxxxxxxxxxxxxxxx' %}\
            {% if a == b %}{% endif %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
        let steps = steps.replace("a == b", "a == 'x'");
        assert_eq!(rendered(&steps), Err(TemplateError::TooMuch));
        let long =
            "{% for a in 'xxxxxxxxxxxxxxxxxxxx' %}".to_owned() + &"x".repeat(300) + "{% endfor %}";
        assert_eq!(rendered(&long), Err(TemplateError::TooMuch));
        assert_eq!(check(&"x".repeat(5_000)), Err(TemplateError::TooLong));
    }

    #[test]
    fn what_takes_long_in_one_step_is_not_allowed() {
        // Each of these doubles a value with every repetition, or works through such a value.
        for source in [
            "{% set a = [type, type] %}{{ a }}",
            "{% with a = 1 %}{{ a }}{% endwith %}",
            "{{ [[type, type], [type, type]] }}",
            "{{ {'a': type} }}",
            "{{ 'x' * 1000000000 }}",
            "{{ type ~ type }}",
            "{{ type + type }}",
            "{{ 9 ** 99999999 }}",
            "{{ data == data }}",
            "{{ data.agent in data.agent.tags }}",
            "{{ 'a' < type < 'b' }}",
            "{{ data.agent.tags[::1] }}",
            "{{ type is defined }}",
            "{{ range(9) }}",
            "{{ type|replace('a', 'b') }}",
            "{% include 'a' %}",
            "{% filter upper %}{{ type }}{% endfilter %}",
            "{% for a in data recursive %}{{ loop(data) }}{% endfor %}",
        ] {
            let refused = check(source);
            assert!(
                matches!(refused, Err(TemplateError::NotAllowed { .. })),
                "{source}: {refused:?}"
            );
        }
    }
}
