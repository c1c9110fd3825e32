//! Names of parameters, and which names would change what programs do.
//!
//! The lists are a second line of defence and cannot be complete. The first one is that a host
//! accepts only the parameters that a script declares.

use super::ParameterError;

/// Longest name of a parameter, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Checks that a name is a valid environment variable and is not reserved.
///
/// # Errors
/// [`ParameterError::Malformed`] or [`ParameterError::Reserved`].
pub fn check_name(name: &str) -> Result<(), ParameterError> {
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !starts_well || !is_word || name.len() > MAX_NAME_BYTES {
        return Err(ParameterError::Malformed(name.chars().take(MAX_NAME_BYTES).collect()));
    }
    if RESERVED.contains(name) {
        return Err(ParameterError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Checks a name that a script accepts only because it takes any parameter. Many names that a host
/// may declare (`GIT_BRANCH`) belong to families that make a program run another one
/// (`GIT_SSH_COMMAND`).
///
/// # Errors
/// As [`check_name`], and [`ParameterError::MustBeDeclared`].
pub fn check_undeclared_name(name: &str) -> Result<(), ParameterError> {
    check_name(name)?;
    if TOOL_SETTINGS.contains(name) {
        return Err(ParameterError::MustBeDeclared(name.to_owned()));
    }
    Ok(())
}

/// Variable names in upper case; letters of both cases match.
struct NameList {
    exact: &'static [&'static str],
    prefixes: &'static [&'static str],
    suffixes: &'static [&'static str],
}

impl NameList {
    fn contains(&self, name: &str) -> bool {
        let upper = name.to_ascii_uppercase();
        self.exact.contains(&upper.as_str())
            || self.prefixes.iter().any(|prefix| upper.starts_with(prefix))
            || self.suffixes.iter().any(|suffix| upper.ends_with(suffix))
    }
}

/// Names that change how programs start: never accepted, declared or not.
const RESERVED: NameList = NameList {
    exact: &[
        "PATH",
        "ENV",
        "IFS",
        "NODE_OPTIONS",
        "NODE_PATH",
        // Java reads it beside those that end with JAVA_OPTIONS.
        "JAVA_TOOL_OPTIONS",
        "SHELLOPTS",
        "PS4",
        "CDPATH",
        "GLOBIGNORE",
        "PROMPT_COMMAND",
        "PERLLIB",
        "RUBYOPT",
        "RUBYLIB",
        "HOME",
        "SHELL",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "TAR_OPTIONS",
        "MAKEFLAGS",
        "GNUMAKEFLAGS",
        "MFLAGS",
        "RSYNC_RSH",
    ],
    prefixes: &["LD_", "DYLD_", "PYTHON", "PERL5", "MUSTER_", "BASH", "LUA_INIT"],
    suffixes: &["JAVA_OPTIONS"],
};

/// Names that make common tools run another program, to read another configuration,
/// or to connect elsewhere. A host may declare one of them by name.
const TOOL_SETTINGS: NameList = NameList {
    exact: &[
        // Programs that other programs start.
        "EDITOR",
        "VISUAL",
        "FCEDIT",
        "PAGER",
        "BROWSER",
        "SUDO_ASKPASS",
        "SUDO_EDITOR",
        "LESSOPEN",
        "LESSCLOSE",
        "LESS",
        "VIMINIT",
        "EXINIT",
        "ZDOTDIR",
        "FPATH",
        "CVS_RSH",
        "SVN_SSH",
        "SVN_EDITOR",
        "HGRCPATH",
        "HGEDITOR",
        "MAKEFILES",
        "CC",
        "CXX",
        "RUSTC",
        // Options and start-up files of programs.
        "BASHRC",
        "INPUTRC",
        "GREP_OPTIONS",
        "GZIP",
        "BZIP2",
        "XZ_OPT",
        "XZ_DEFAULTS",
        "ZIPOPT",
        "UNZIP",
        "WGETRC",
        "CURL_HOME",
        "NETRC",
        "PSQLRC",
        "PHPRC",
        "PHP_INI_SCAN_DIR",
        "GOENV",
        "GOFLAGS",
        "GOPATH",
        "GOPROXY",
        "GOROOT",
        "GOTOOLCHAIN",
        "PGPASSFILE",
        "PGSERVICEFILE",
        "PGSYSCONFDIR",
        "RUSTFLAGS",
        "CLASSPATH",
        "JAVA_HOME",
        "R_PROFILE",
        "R_ENVIRON",
        "AWKPATH",
        "AWKLIBPATH",
        "TCLLIBPATH",
        "M4PATH",
        "KUBECONFIG",
        "BOTO_CONFIG",
        "GNUPGHOME",
        "XDG_CONFIG_HOME",
        "XDG_CONFIG_DIRS",
        "XDG_DATA_HOME",
        "XDG_DATA_DIRS",
        // The C library, and where names and trust come from.
        "LOCPATH",
        "NLSPATH",
        "TZDIR",
        "TMPDIR",
        "HOSTALIASES",
        "LOCALDOMAIN",
        "RES_OPTIONS",
        "RESOLV_HOST_CONF",
        "GETCONF_DIR",
        "TERMINFO",
        "TERMINFO_DIRS",
        "TERMCAP",
        "OPENSSL_CONF",
        "OPENSSL_MODULES",
        "OPENSSL_ENGINES",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "KRB5_CONFIG",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CA_BUNDLE",
        "USER",
        "LOGNAME",
    ],
    prefixes: &[
        "GIT_",
        "SSH_",
        "RSYNC_",
        "TAR_",
        "MAKE",
        "PIP_",
        "NPM_",
        "NODE_",
        "YARN_",
        "RUBY",
        "GEM_",
        "BUNDLE_",
        "PERL",
        "LUA_",
        "GLIBC_",
        "GCONV_",
        "MALLOC_",
        "DOCKER_",
        "BUILDKIT_",
        "COMPOSE_",
        "PODMAN_",
        "CONTAINER",
        "HELM_",
        "TF_",
        "ANSIBLE_",
        "CARGO_",
        "CMAKE_",
        "RUSTC_",
        "DOTNET_",
        "CORECLR_",
        "COR_",
        "COMPLUS_",
        "GUILE_",
        "ERL_",
        "ELIXIR_",
        "JULIA_",
        "PHP_",
        "COMPOSER_",
        "UV_",
        "POETRY_",
        "CONDA_",
        "DPKG_",
        "APT_",
        "DEBIAN_FRONTEND",
        "RPM_",
        "SYSTEMD_",
        "GDB",
        "QT_",
        "GTK_",
        "GIO_",
        "XDG_RUNTIME_",
    ],
    suffixes: &["_PROXY", "_ASKPASS", "_EDITOR", "_PAGER", "_OPTS", "_RSH"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_change_how_programs_start_are_rejected() {
        for name in [
            "PATH",
            "path",
            "LD_PRELOAD",
            "LD_AUDIT",
            "BASH_ENV",
            "BASHOPTS",
            "BASH_FUNC_x",
            "ENV",
            "IFS",
            "PYTHONPATH",
            "PERL5OPT",
            "PERL5DB",
            "RUBYOPT",
            "NODE_OPTIONS",
            "MUSTER_API_KEY",
            "TAR_OPTIONS",
            "MAKEFLAGS",
            "RSYNC_RSH",
            "LUA_INIT",
            "LUA_INIT_5_4",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "JAVA_TOOL_OPTIONS",
        ] {
            assert_eq!(check_name(name), Err(ParameterError::Reserved(name.into())), "{name}");
        }
    }

    #[test]
    fn settings_of_common_tools_are_accepted_only_if_they_are_declared() {
        for name in [
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "PIP_INDEX_URL",
            "npm_config_script_shell",
            "http_proxy",
            "HTTPS_PROXY",
            "All_Proxy",
            "DOCKER_HOST",
            "NODE_EXTRA_CA_CERTS",
            "RUBY_GC",
            "SSH_ASKPASS",
            "EDITOR",
            "PAGER",
            "KUBECONFIG",
            "OPENSSL_CONF",
            "JAVA_OPTS",
            "MAVEN_OPTS",
            "PGSERVICEFILE",
            "GOPROXY",
            "CMAKE_TOOLCHAIN_FILE",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
            let refused = Err(ParameterError::MustBeDeclared(name.into()));
            assert_eq!(check_undeclared_name(name), refused, "{name}");
        }
        for name in ["NAME", "RELEASE", "STAGE", "TOKEN", "USER_NAME", "LANG", "TZ", "PORT"] {
            assert_eq!(check_undeclared_name(name), Ok(()), "{name}");
        }
        assert!(check_undeclared_name("PATH").is_err() && check_undeclared_name("a=b").is_err());
    }

    proptest! {
        #[test]
        fn accepted_names_are_valid_variable_names(name in "\\PC{0,20}") {
            if check_name(&name).is_ok() {
                prop_assert!(!name.is_empty() && !name.contains('=') && name.is_ascii());
            }
        }
    }
}
