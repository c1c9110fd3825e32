//! The heads of a tar archive (POSIX ustar, with the numbers of GNU tar for sizes from 8 GiB on). Regular
//! files only: no links, folders or extensions.

/// Heads and contents fill blocks of this size.
pub(super) const BLOCK: usize = 512;

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;
/// Larger sizes do not fit into 11 octal digits.
const LARGEST_OCTAL: u64 = 0o777_7777_7777;

/// The head of a file; `None` if the name is too long.
pub(super) fn encode(name: &str, bytes: u64) -> Option<[u8; BLOCK]> {
    let mut head = [0; BLOCK];
    let (prefix, name) = split(name)?;
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[PREFIX.start..PREFIX.start + prefix.len()].copy_from_slice(prefix.as_bytes());
    head[MODE].copy_from_slice(b"0000600\0");
    // Owner, group and time are set by the user who unpacks it.
    for number in [108..116, 116..124] {
        head[number].copy_from_slice(b"0000000\0");
    }
    head[136..148].copy_from_slice(b"00000000000\0");
    if bytes <= LARGEST_OCTAL {
        head[SIZE].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    } else {
        head[SIZE.start] = 0x80;
        head[SIZE.end - 8..SIZE.end].copy_from_slice(&bytes.to_be_bytes());
    }
    head[TYPE] = b'0';
    head[MAGIC].copy_from_slice(b"ustar\x0000");
    let sum = checksum(&head);
    head[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(head)
}

/// Name and size of a file; a reason if the head is not one that [`encode`] writes.
pub(super) fn decode(head: &[u8; BLOCK]) -> Result<(String, u64), &'static str> {
    if octal(&head[CHECKSUM]) != Some(u64::from(checksum(head))) {
        return Err("the checksum of an entry is wrong");
    }
    if head[TYPE] != b'0' || &head[MAGIC] != b"ustar\x0000" {
        return Err("it has an entry that is no regular file");
    }
    let size = &head[SIZE];
    let bytes = match size[0] {
        0x80 if size[1..4] == [0; 3] => {
            let mut number = [0; 8];
            number.copy_from_slice(&size[4..]);
            u64::from_be_bytes(number)
        }
        _ => octal(size).ok_or("the size of an entry is invalid")?,
    };
    let text = |range| {
        let field: &[u8] = &head[range];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).map_err(|_| "the name of an entry is invalid")
    };
    let (prefix, name) = (text(PREFIX)?, text(NAME)?);
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Ok((name, bytes))
}

/// Splits a name at a `/` into a prefix and what fits into the field for names.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let fits = |(prefix, rest): &(&str, &str)| {
        prefix.len() <= PREFIX.len() && rest.len() <= NAME.len() && !rest.is_empty()
    };
    name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..])).find(fits)
}

/// The sum of all bytes, with blanks in place of the checksum.
fn checksum(head: &[u8; BLOCK]) -> u32 {
    let bytes = head.iter().enumerate();
    bytes.map(|(at, byte)| if CHECKSUM.contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}
