//! Where a reader of a job's stream stands, and its events cut out of the provider's bytes.
//!
//! Promises: the name of a place holds a hash of all that was read before it (FNV-1a, 64 bits), so
//! that one who comes back, at whatever gateway, goes on exactly there if those bytes are still the
//! answer's, and begins again if not. Pure data: no I/O.

use super::job::Status;

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// A place: bytes read, their hash, and the status that was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes read.
    pub read: usize,
    hash: u64,
    /// Told last.
    pub status: Option<Status>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            read: 0,
            hash: BASIS,
            status: None,
        }
    }
}

impl Place {
    /// Reads an event's `id`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '-');
        let read = usize::from_str_radix(parts.next()?, 16).ok()?;
        let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
        let status = Status::parse(parts.next()?)?;
        Some(Self {
            read,
            hash,
            status: Some(status),
        })
    }

    /// Its name, an event's `id`.
    pub fn name(&self) -> String {
        let status = self.status.map_or("none", Status::as_str);
        format!("{:x}-{:016x}-{status}", self.read, self.hash)
    }

    /// Goes on over these bytes.
    pub fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.read += bytes.len();
    }

    /// Whether these are the bytes that were read.
    pub fn is_within(&self, body: &[u8]) -> bool {
        let mut other = Self::default();
        body.get(..self.read).is_some_and(|before| {
            other.pass(before);
            other.hash == self.hash
        })
    }

    /// Back to the first byte; what was told of the status stands.
    pub fn rewind(&mut self) {
        *self = Self {
            status: self.status,
            ..Self::default()
        };
    }
}

/// The length of the first whole event: up to and with its blank line.
pub fn event_length(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &bytes[from..]) {
        let end = from + at + 1;
        let rest = &bytes[end..];
        if rest.starts_with(b"\n") {
            return Some(end + 1);
        }
        if rest.starts_with(b"\r\n") {
            return Some(end + 2);
        }
        from = end;
    }
    None
}

/// An event of the provider's with another `id`.
pub fn named(event: &[u8], id: &str) -> Vec<u8> {
    let mut made = format!("id: {id}\n").into_bytes();
    for line in event.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b"id:") {
            made.extend_from_slice(line);
        }
    }
    while !made.ends_with(b"\n\n") && !made.ends_with(b"\n\r\n") {
        made.push(b'\n');
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_knows_its_bytes() {
        let mut place = Place {
            status: Some(Status::Running),
            ..Place::default()
        };
        place.pass(b"data: 1\n\n");
        assert_eq!(Place::parse(&place.name()), Some(place));
        assert!(place.is_within(b"data: 1\n\ndata: 2\n\n"));
        assert!(!place.is_within(b"data: 7\n\ndata: 2\n\n"));
        assert!(!place.is_within(b"data: 1\n"));
        place.rewind();
        assert!(place.is_within(b""));
        for wrong in ["", "7", "1-2", "x-y-running", "1-2-nothing"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn events_end_with_a_blank_line_in_either_form() {
        assert_eq!(event_length(b"data: 1\n\nda"), Some(9));
        assert_eq!(event_length(b"data: 1\r\n\r\nda"), Some(11));
        assert_eq!(event_length(b"event: x\ndata: 1\n"), None);
        let made = named(b"id: 7\nevent: x\ndata: 1\n\n", "a");
        assert_eq!(made, b"id: a\nevent: x\ndata: 1\n\n");
        assert_eq!(named(b"data: 1", "a"), b"id: a\ndata: 1\n\n");
    }
}
