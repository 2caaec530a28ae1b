//! Header lines as stores keep them: one text, as they stand in HTTP/1.1.
//!
//! Promises: what a header can hold is read back as it was; no value can hold a line break.

use crate::cold::job::HeaderLines;

/// Header lines as one text.
pub fn to_text(lines: &HeaderLines) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in lines {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text
}

/// Reads them back.
pub fn from_text(text: &[u8]) -> HeaderLines {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            Some((name, line[colon + 1..].to_vec()))
        })
        .collect()
}
