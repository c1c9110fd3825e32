//! The forms in which programs print a secret.

use data_encoding::BASE64_NOPAD;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Shorter values are not masked: they occur everywhere, and masking them would reveal them.
pub const MIN_SECRET_BYTES: usize = 4;
/// Encoded forms are masked too, as long as all values together are not longer than this.
const MAX_ENCODED_BYTES: usize = 64 * 1024;
/// Characters that are not escaped in a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const BASE64_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The byte sequences to search for, shorter ones first.
#[derive(Debug, Default)]
pub(super) struct Forms {
    /// Searched for as they are.
    pub plain: Vec<Vec<u8>>,
    /// Base64 in the standard alphabet; may be wrapped at any column.
    pub base64: Vec<Vec<u8>>,
}

impl Forms {
    pub fn of(secrets: &SecretParameters) -> Self {
        let values: Vec<&str> = secrets
            .iter()
            // Programs often drop or add a line break at the end.
            .map(|(_, value)| value.trim_end_matches(['\r', '\n']))
            .filter(|value| value.len() >= MIN_SECRET_BYTES)
            .collect();
        let is_short = values.iter().map(|value| value.len()).sum::<usize>() <= MAX_ENCODED_BYTES;
        let mut forms = Self::default();
        for value in values {
            forms.add_text(value, is_short);
            if value.contains('\n') {
                let lines = value.split(['\r', '\n']).map(str::trim);
                for line in lines.filter(|line| line.len() >= MIN_SECRET_BYTES) {
                    forms.add_text(line, is_short);
                }
            }
            if is_short {
                for offset in 0..3 {
                    forms.add_base64(value, offset);
                }
            }
        }
        for forms in [&mut forms.plain, &mut forms.base64] {
            forms.sort_unstable_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
            forms.dedup();
        }
        forms
    }

    fn add_text(&mut self, text: &str, is_short: bool) {
        self.plain.push(text.as_bytes().to_vec());
        if is_short {
            let in_url = percent_encode(text.as_bytes(), UNRESERVED).to_string();
            self.plain.push(in_url.replace("%20", "+").into_bytes());
            self.plain.push(in_url.into_bytes());
            self.plain.extend(in_json(text).map(String::into_bytes));
        }
    }

    /// Base64 of a text in which `offset` other bytes (modulo 3) precede the value. The character
    /// that mixes them with the first bits of the value is left out, because it is not known.
    fn add_base64(&mut self, value: &str, offset: usize) {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(value.as_bytes());
        let begin = (8 * offset).div_ceil(6);
        let whole_end = 8 * bytes.len() / 6;
        let spare_bits = 8 * bytes.len() % 6;
        let encode = |bytes: &[u8]| BASE64_NOPAD.encode(bytes).into_bytes()[begin..].to_vec();
        let at_end = encode(&bytes);
        let core = &at_end[..whole_end - begin];
        self.base64.push(core.to_vec());
        if let Some(last) = at_end.get(core.len()) {
            // The last character also holds bits of the byte that follows: any of them.
            let known = BASE64_ALPHABET.iter().position(|letter| letter == last).unwrap_or(0);
            for other in 0..1_usize << (6 - spare_bits) {
                let mut form = core.to_vec();
                form.push(BASE64_ALPHABET[known | other]);
                self.base64.push(form);
            }
        }
        bytes.push(b'\n');
        self.base64.push(encode(&bytes));
    }
}

/// The text as common programs escape it in a JSON string: without more escapes than needed, with
/// `\/`, in ASCII only, and safe for HTML.
fn in_json(text: &str) -> [String; 4] {
    let escape = |is_escaped: &dyn Fn(char) -> bool, solidus: &str| {
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            match letter {
                '"' => escaped.push_str("\\\""),
                '\\' => escaped.push_str("\\\\"),
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '\t' => escaped.push_str("\\t"),
                '\u{8}' => escaped.push_str("\\b"),
                '\u{c}' => escaped.push_str("\\f"),
                '/' => escaped.push_str(solidus),
                _ if letter < ' ' || is_escaped(letter) => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        escaped.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => escaped.push(letter),
            }
        }
        escaped
    };
    let not_ascii = |letter: char| letter > '~';
    let in_html = |letter: char| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    [
        escape(&|_| false, "/"),
        escape(&|_| false, "\\/"),
        escape(&not_ascii, "/"),
        escape(&in_html, "/"),
    ]
}
