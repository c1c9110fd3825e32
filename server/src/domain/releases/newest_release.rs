//! Selects the newest of several releases. Pure.

use muster_protocol::release::Version;

/// The index of the newest version. A pre-release only counts if there is no other version.
/// Malformed versions are ignored.
pub fn newest<'a>(versions: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let read = |(index, text): (usize, &str)| {
        let version: Version = text.parse().ok()?;
        Some((version.pre.is_empty(), version, index))
    };
    versions.into_iter().enumerate().filter_map(read).max().map(|(_, _, index)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pre_release_is_the_newest_only_among_pre_releases() {
        let of = |versions: &[&str]| {
            newest(versions.iter().copied()).map(|index| versions[index].to_owned())
        };
        assert_eq!(of(&["0.2.0", "0.10.0", "0.11.0-rc.1"]).as_deref(), Some("0.10.0"));
        assert_eq!(of(&["0.11.0-rc.2", "0.11.0-rc.1"]).as_deref(), Some("0.11.0-rc.2"));
        assert_eq!(of(&["latest"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn no_version_is_above_the_newest_and_the_order_does_not_matter(
            versions in prop::collection::vec((0u64..4, 0u64..4, any::<bool>()), 1..20),
        ) {
            let text = |(minor, patch, is_preview): &(u64, u64, bool)| {
                format!("0.{minor}.{patch}{}", if *is_preview { "-rc.1" } else { "" })
            };
            let texts: Vec<_> = versions.iter().map(text).collect();
            let index = newest(texts.iter().map(String::as_str)).expect("there is one");
            let (minor, patch, is_preview) = versions[index];
            for other in versions.iter().filter(|other| other.2 == is_preview) {
                prop_assert!((other.0, other.1) <= (minor, patch));
            }
            prop_assert!(!is_preview || versions.iter().all(|other| other.2));
            let turned = newest(texts.iter().rev().map(String::as_str)).expect("there is one");
            prop_assert_eq!(&texts[texts.len() - 1 - turned], &texts[index]);
        }
    }
}
