//! Lines of a server-sent event stream, found in chunks that end anywhere.
//!
//! Promises: looks at each byte once and copies only lines that two chunks share. A line longer
//! than 1 MiB is cut there. Never changes what passes.

use memchr::memchr;

const LONGEST: usize = 1 << 20;

/// Cuts chunks into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Gives each line that ends in this chunk, without its line break.
    pub fn feed(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(at) = memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(at);
            if self.partial.is_empty() {
                line(trimmed(&head[..head.len().min(LONGEST)]));
            } else {
                self.keep(head);
                line(trimmed(&self.partial));
                self.partial.clear();
            }
            rest = &tail[1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.partial.len().min(LONGEST);
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The value of a `data:` line.
pub fn data(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.feed(chunk, |line| found.push(line.to_vec()));
        }
        found
    }

    proptest! {
        #[test]
        fn where_chunks_end_does_not_matter(
            text in "[a\n\r]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(lines(&chunks), lines(&[bytes]));
        }
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut lines = Lines::default();
        for _ in 0..40 {
            lines.feed(&vec![b'x'; 100_000], |_| {});
        }
        assert_eq!(lines.partial.len(), LONGEST);
        let mut length = 0;
        lines.feed(b"\n", |line| length = line.len());
        assert_eq!(length, LONGEST);
    }

    #[test]
    fn a_long_line_is_cut_at_the_same_place_wherever_its_chunks_end() {
        let mut long = vec![b'x'; LONGEST - 1];
        long.extend_from_slice(b"\r and more\n");
        let whole = lines(&[&long]);
        assert_eq!(whole, lines(&[&long[..7], &long[7..]]));
        assert_eq!(whole[0].len(), LONGEST - 1);
    }

    #[test]
    fn data_lines_are_told_from_others() {
        assert_eq!(data(b"data: {}"), Some(&b"{}"[..]));
        assert_eq!(data(b"data:{}"), Some(&b"{}"[..]));
        assert_eq!(data(b": ping"), None);
        assert_eq!(data(b"event: ping"), None);
    }
}
