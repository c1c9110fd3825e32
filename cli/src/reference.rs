//! The reference of all commands, from the command line itself: a page of Markdown, and manual pages.
//!
//! Pure.

use clap::{Arg, Command};

/// The reference as Markdown.
pub fn markdown(cli: &Command) -> String {
    let mut page = String::from(
        "# Command line\n\nEvery command of `muster` with its options. This page is generated from the program: \
         `MUSTER_WRITE_DOCS=1 cargo nextest run --workspace -E 'test(reference_of_the_command_line_is_current)'`.\n\n\
         `muster COMMAND --help` shows the same at a terminal, `muster completion SHELL` prints a completion script, \
         and `muster man DIRECTORY` writes manual pages.\n\n## Options of every command\n\n",
    );
    let globals = cli.get_arguments().filter(|argument| argument.is_global_set());
    write_options(&mut page, globals);
    for command in visible(cli) {
        write_command(&mut page, command, "muster", 2);
    }
    page
}

/// A manual page for each command, with its file name.
pub fn manual_pages(cli: &Command) -> Vec<(String, String)> {
    let mut pages = vec![(String::from("muster.1"), manual_page(cli, "muster"))];
    for command in visible(cli) {
        let name = format!("muster-{}", command.get_name());
        pages.push((format!("{name}.1"), manual_page(command, &name)));
    }
    pages
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|action| !action.is_hide_set() && action.get_name() != "help")
}

fn write_command(page: &mut String, command: &Command, path: &str, level: usize) {
    let path = format!("{path} {}", command.get_name());
    page.push_str(&format!("{} {path}\n\n{}\n\n", "#".repeat(level), description(command)));
    page.push_str(&format!("```\n{}\n```\n\n", usage(command, &path)));
    write_options(page, own_arguments(command));
    for action in visible(command) {
        write_command(page, action, &path, level + 1);
    }
}

/// What a command does; worked examples in it stay as they are written.
fn description(command: &Command) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    let text = about.map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().map(|line| match line.strip_prefix("  ") {
        Some(example) => format!("    {}", example.trim_end()),
        None => line.replace('<', "&lt;").trim_end().to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The line that shows how to type a command.
fn usage(command: &Command, path: &str) -> String {
    let mut line = path.to_owned();
    if own_arguments(command).any(|argument| !argument.is_positional()) {
        line.push_str(" [OPTIONS]");
    }
    for argument in command.get_positionals() {
        let name = value_names(argument);
        let shown = if argument.is_last_set() { format!("-- {name}") } else { name };
        let shown = if argument.is_required_set() { shown } else { format!("[{shown}]") };
        line.push_str(&format!(" {shown}"));
    }
    if visible(command).next().is_some() {
        line.push_str(if command.is_subcommand_required_set() { " COMMAND" } else { " [COMMAND]" });
    }
    line
}

fn own_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let own = command.get_arguments().filter(|argument| !argument.is_global_set());
    own.filter(|argument| {
        !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
    })
}

fn write_options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let rows: Vec<_> = arguments.map(|argument| (spelling(argument), help(argument))).collect();
    if rows.is_empty() {
        return;
    }
    page.push_str("| option | |\n|---|---|\n");
    for (spelling, help) in rows {
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        page.push_str(&format!("| `{}` | {} |\n", spelling.replace('|', "\\|"), cell(&help)));
    }
    page.push('\n');
}

/// An argument as people type it: `-p, --parameter NAME=VALUE`.
fn spelling(argument: &Arg) -> String {
    if argument.is_positional() {
        return value_names(argument);
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if argument.get_action().takes_values() {
        format!("{names} {}", value_names(argument))
    } else {
        names
    }
}

fn value_names(argument: &Arg) -> String {
    match argument.get_value_names() {
        Some(names) if !names.is_empty() => {
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => argument.get_id().as_str().to_uppercase(),
    }
}

/// What an argument is for, its values and its default, in one line.
fn help(argument: &Arg) -> String {
    let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut help = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !names.is_empty() {
            help.push_str(&format!(". One of {}", names.join(", ")));
        }
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !help.contains("[default:") {
            help.push_str(&format!(" [default: {}]", defaults.join(", ")));
        }
    }
    help
}

/// One manual page in roff.
fn manual_page(command: &Command, name: &str) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let path = name.replacen('-', " ", 1);
    let mut page = format!(
        ".TH {} 1 \"\" \"Muster\" \"Muster\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.nf\n",
        roff(&name.to_uppercase()),
        roff(name),
        roff(&about)
    );
    write_synopsis(&mut page, command, &path);
    page.push_str(".fi\n.SH DESCRIPTION\n.nf\n");
    let long = command.get_long_about().or_else(|| command.get_about());
    page.push_str(&roff(&long.map(ToString::to_string).unwrap_or_default()));
    page.push_str("\n.fi\n");
    write_manual_options(&mut page, command, "OPTIONS", &path);
    page
}

fn write_synopsis(page: &mut String, command: &Command, path: &str) {
    page.push_str(&format!("{}\n", roff(&usage(command, path))));
    for action in visible(command) {
        if path != "muster" {
            write_synopsis(page, action, &format!("{path} {}", action.get_name()));
        }
    }
}

fn write_manual_options(page: &mut String, command: &Command, heading: &str, path: &str) {
    let arguments: Vec<_> = match path {
        "muster" => command.get_arguments().filter(|argument| argument.is_global_set()).collect(),
        _ => own_arguments(command).collect(),
    };
    if !arguments.is_empty() {
        page.push_str(&format!(".SH {}\n", roff(heading)));
        for argument in arguments {
            page.push_str(&format!(
                ".TP\n.B {}\n{}\n",
                roff(&spelling(argument)),
                roff(&help(argument))
            ));
        }
    }
    if path != "muster" {
        for action in visible(command) {
            let path = format!("{path} {}", action.get_name());
            write_manual_options(page, action, &path.to_uppercase(), &path);
        }
    }
}

/// Text without characters that roff reads as requests.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
