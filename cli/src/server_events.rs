//! Server-sent events, read from the bytes of an answer.
//!
//! Pure: knows no connection. Only what a Muster server sends is understood: one line of data an
//! event.

/// Longest event; a server's are far shorter.
const MAX_EVENT_BYTES: usize = 2 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// What it is of.
    pub name: String,
    /// Where to go on behind it, if it says so.
    pub id: Option<String>,
    /// JSON.
    pub data: String,
}

/// An event that never ends.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Puts events together from whatever pieces they come in.
#[derive(Debug, Default)]
pub struct EventReader {
    unread: Vec<u8>,
    /// How much of `unread` was searched for an end.
    searched: usize,
}

impl EventReader {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next whole event, if there is one. Signs of life are passed over.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn next(&mut self) -> Result<Option<ServerEvent>, TooLong> {
        loop {
            let from = self.searched.saturating_sub(1);
            let end = self.unread[from..].windows(2).position(|pair| pair == b"\n\n");
            let Some(end) = end.map(|end| from + end) else {
                self.searched = self.unread.len();
                return match self.unread.len() > MAX_EVENT_BYTES {
                    true => Err(TooLong),
                    false => Ok(None),
                };
            };
            let event = event(&String::from_utf8_lossy(&self.unread[..end]));
            self.unread.drain(..end + 2);
            self.searched = 0;
            if let Some(event) = event {
                return Ok(Some(event));
            }
        }
    }
}

fn event(block: &str) -> Option<ServerEvent> {
    let mut event = ServerEvent::default();
    let mut data = None;
    for line in block.lines() {
        let (name, value) = line.split_once(':')?;
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "event" => event.name = value,
            "id" => event.id = Some(value),
            "data" => data = Some(value),
            // Comments and what is not known.
            _ => {}
        }
    }
    data.map(|data| ServerEvent { data, ..event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SENT: &str = "event: output\ndata: {\"text\":\"é: \\n\"}\nid: 7\n\n:\n\nevent:result\nid:8\ndata:{}\n\nevent: cut";

    fn read(pieces: &[&[u8]]) -> Vec<ServerEvent> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(event) = reader.next().unwrap() {
                events.push(event);
            }
        }
        events
    }

    proptest! {
        #[test]
        fn events_are_the_same_in_whatever_pieces_they_come(cuts in prop::collection::vec(0..SENT.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, SENT.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &SENT.as_bytes()[cut[0]..cut[1]]).collect();
            let expected = [
                ("output", "7", "{\"text\":\"é: \\n\"}"),
                ("result", "8", "{}"),
            ].map(|(name, id, data)| ServerEvent { name: name.into(), id: Some(id.into()), data: data.into() });
            prop_assert_eq!(read(&pieces), expected);
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut reader = EventReader::default();
        reader.push(&vec![b'x'; MAX_EVENT_BYTES + 1]);
        assert_eq!(reader.next(), Err(TooLong));
    }
}
