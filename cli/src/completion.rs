//! Completion scripts of shells: options and commands from the command line itself, names of agents and
//! scripts from the server.
//!
//! Pure.

use clap::Command;
use clap_complete::Shell;

/// Asks `muster suggest` first. It prints only names without characters that a shell reads.
const BASH: &str = r#"
_muster_names() {
    local found
    found=$(muster suggest -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [ -n "$found" ]; then
        COMPREPLY=($found)
    else
        _muster "$@"
    fi
}
complete -F _muster_names -o bashdefault -o default muster
"#;

const ZSH: &str = r#"
_muster_names() {
    local -a found
    found=(${(f)"$(muster suggest -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -- $found
    else
        _muster "$@"
    fi
}
compdef _muster_names muster
"#;

const FISH: &str = r#"
complete -c muster -f -a '(muster suggest -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"#;

/// The completion script of a shell.
pub fn script(shell: Shell, mut cli: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "muster", &mut script);
    let names = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => "",
    };
    format!("{}{names}", String::from_utf8_lossy(&script))
}
