//! When the server received each part of an execution's output.

use reqwest::Method;
use serde_json::Value;

use crate::api::client::ApiClient;
use crate::error::CliError;

/// Instants by offset, in order.
#[derive(Debug, Default)]
pub struct ReceivedTimes(Vec<(u64, String)>);

impl ReceivedTimes {
    /// All instants of an execution's output that are known so far.
    ///
    /// # Errors
    /// [`CliError`].
    pub async fn read(api: &ApiClient, id: &str) -> Result<Self, CliError> {
        let mut times = Vec::new();
        let mut from_bytes = 0_u64;
        loop {
            let segments = ["executions", id, "output", "times"];
            let request = api.request(Method::GET, &segments).query(&[("from_bytes", from_bytes)]);
            let page = api.json_with_retries(request).await?;
            let items = page.get("items").and_then(Value::as_array);
            times.extend(items.into_iter().flatten().filter_map(|item| {
                let offset = item.get("offset_bytes")?.as_u64()?;
                Some((offset, item.get("received_at")?.as_str()?.to_owned()))
            }));
            match page.get("next_from_bytes").and_then(Value::as_u64) {
                Some(next) if next > from_bytes => from_bytes = next,
                _ => break,
            }
        }
        times.sort();
        times.dedup();
        Ok(Self(times))
    }

    /// When the byte at this offset was received; `None` before the first instant.
    pub fn at(&self, offset: u64) -> Option<&str> {
        let after = self.0.partition_point(|(from, _)| *from <= offset);
        self.0.get(after.checked_sub(1)?).map(|(_, at)| at.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_the_last_instant_at_or_before_it() {
        let times = ReceivedTimes(vec![(0, "a".into()), (10, "b".into())]);
        let found = [0, 9, 10, 11].map(|offset| times.at(offset));
        assert_eq!(found, [Some("a"), Some("a"), Some("b"), Some("b")]);
        assert_eq!(ReceivedTimes::default().at(0), None);
    }
}
