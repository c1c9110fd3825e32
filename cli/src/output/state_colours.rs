//! Colours of states on a terminal. Pure: words stay words, so nothing depends on colours.

use console::Style;

/// Around a state in a text, until it is known where the text goes. Neither has a width, and neither is a letter.
const START: char = '\u{2061}';
const END: char = '\u{2062}';

/// Marks a state, so that [`paint`] finds it.
pub fn mark(state: &str) -> String {
    format!("{START}{state}{END}")
}

/// Gives marked states their colours, or removes the marks.
pub fn paint(text: &str, is_coloured: bool) -> String {
    let mut painted = String::with_capacity(text.len());
    for part in text.split_inclusive(END) {
        let marked = part.strip_suffix(END).and_then(|part| part.rsplit_once(START));
        match marked {
            Some((before, state)) if is_coloured => {
                painted.push_str(&without_marks(before));
                painted.push_str(&style(state).apply_to(state).to_string());
            }
            _ => painted.push_str(&without_marks(part)),
        }
    }
    painted
}

fn without_marks(text: &str) -> String {
    text.chars().filter(|char| !matches!(*char, START | END)).collect()
}

fn style(state: &str) -> Style {
    let plain = Style::new().force_styling(true);
    match state.split([' ', ':']).next().unwrap_or_default() {
        "succeeded" | "online" | "installed" | "healthy" | "active" | "connected"
        | "delivered_to" => plain.green(),
        "failed" | "rejected" | "refused" | "lost" | "timed_out" | "expired" | "failing"
        | "rolled_back" => plain.red(),
        "running" | "delivered" | "downloading" => plain.cyan(),
        "queued" | "paused" | "halted" | "awaiting_approval" | "pending" | "backoff" | "held"
        | "disabled" => plain.yellow(),
        "offline" | "cancelled" | "aborted" | "skipped" | "stopped" | "ended" => plain.dim(),
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_states_are_coloured_and_no_mark_is_left() {
        let text = format!("web-1  {}  failed\nweb-2  {}", mark("failed"), mark("running 2/3"));
        assert_eq!(paint(&text, false), "web-1  failed  failed\nweb-2  running 2/3");
        let painted = paint(&text, true);
        assert_eq!(
            painted,
            "web-1  \u{1b}[31mfailed\u{1b}[0m  failed\nweb-2  \u{1b}[36mrunning 2/3\u{1b}[0m"
        );
        // A host can't open or close a colour.
        assert_eq!(paint("a\u{2062}b\u{2061}c", true), "abc");
        assert_eq!(paint(&mark("unknown"), true), "unknown");
    }
}
