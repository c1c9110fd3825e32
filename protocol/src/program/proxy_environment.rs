//! Which proxy the environment names for a server. Agent and command line share the rule: curl's.

/// A proxy as the environment names it. The address may be invalid, and may contain a password.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedProxy {
    /// The variable that names it.
    pub variable: &'static str,
    /// The value of the variable.
    pub address: String,
    /// The value of `NO_PROXY`; empty if it is not set.
    pub exempt: String,
}

/// The proxy that the variables name, without regard to the hosts that `exempt` lists. `None` if they name
/// none, or exempt every host.
pub fn named_proxy(
    is_secure: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<NamedProxy> {
    let first = |names: [&'static str; 2]| {
        let set = names.into_iter().filter_map(|name| Some((name, variable(name)?)));
        set.map(|(name, value)| (name, value.trim().to_owned()))
            .find(|(_, value)| !value.is_empty())
    };
    let own = first(match is_secure {
        true => ["HTTPS_PROXY", "https_proxy"],
        false => ["HTTP_PROXY", "http_proxy"],
    });
    let (variable, address) = own.or_else(|| first(["ALL_PROXY", "all_proxy"]))?;
    let exempt = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    // The HTTP library applies the star only to names; users mean everything.
    let is_star = exempt.split(',').any(|entry| entry.trim() == "*");
    (!is_star).then_some(NamedProxy { variable, address, exempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(is_secure: bool, variables: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let named =
            named_proxy(is_secure, |name| value(name).map(|(_, value)| (*value).to_owned()));
        named.map(|named| (named.variable, named.address))
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_proxy_applies_to_both() {
        let all = [("HTTPS_PROXY", "a"), ("http_proxy", " b "), ("ALL_PROXY", "c")];
        assert_eq!(named(true, &all), Some(("HTTPS_PROXY", "a".into())));
        assert_eq!(named(false, &all), Some(("http_proxy", "b".into())));
        assert_eq!(named(true, &all[1..]), Some(("ALL_PROXY", "c".into())));
        assert_eq!(named(true, &[("HTTPS_PROXY", " "), all[2]]), Some(("ALL_PROXY", "c".into())));
        assert_eq!(named(true, &[]), None);
    }

    #[test]
    fn star_in_no_proxy_exempts_every_host() {
        let proxy = ("ALL_PROXY", "c");
        assert_eq!(named(true, &[proxy, ("NO_PROXY", "example.com, *")]), None);
        assert!(named(true, &[proxy, ("NO_PROXY", "*.example.com")]).is_some());
    }
}
