//! Templates of people for the text of a message: no loader, strict about unknown names, and bounded in
//! steps, in the size of a text and in what is written.

use std::io;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::domain::integrations::formats::EventMessage;
use crate::domain::integrations::integration::MAX_TEMPLATE_BYTES;

/// Steps of a rendering.
const MAX_TEMPLATE_STEPS: u64 = 20_000;
/// Longest text that a template writes.
const MAX_RENDERED_BYTES: usize = 4_096;
const NAME: &str = "template";

/// A template that cannot be used. The text continues the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("must be at most {MAX_TEMPLATE_BYTES} bytes long")]
    TooLong,
    #[error("is invalid: {0}")]
    Invalid(String),
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
    // Without filters and functions, of which some build large values in one step.
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MAX_TEMPLATE_STEPS));
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_template(NAME, source).map_err(|error| invalid(&error))?;
    Ok(environment)
}

fn invalid(error: &minijinja::Error) -> TemplateError {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    TemplateError::Invalid(format!("{}{line}", error.detail().unwrap_or("it can't be read")))
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
    fn template_is_refused_for_unknown_names_and_more_than_its_bounds() {
        for invalid in
            ["{{ nothing }}", "{{ data.agent.x }}", "{% include 'a' %}", "{{", "{{ range(9) }}"]
        {
            assert!(matches!(rendered(invalid), Err(TemplateError::Invalid(_))), "{invalid}");
        }
        let steps = "{% for a in 'xxxxxxxxxxxxxxxxxxxx' %}{% for b in 'xxxxxxxxxxxxxxxxxxxx' %}\
            {% for c in 'xxxxxxxxxxxxxxxxxxxx' %}{% for d in 'xxxxxxxxxxxxxxxxxxxx' %}\
            {% set e = 1 %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}";
        assert_eq!(rendered(steps), Err(TemplateError::TooMuch));
        assert_eq!(rendered("{{ 'x' * 5000 }}"), Err(TemplateError::TooMuch));
        assert_eq!(check(&"x".repeat(5_000)), Err(TemplateError::TooLong));
    }
}
