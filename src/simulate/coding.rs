//! Compresses answers for those who let it, as providers' edges do: whole ones, not streams.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Whether who asks takes gzip (RFC 9110 12.5.3).
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let mut words = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    words.any(|word| {
        let (name, weight) = word.split_once(';').unwrap_or((word, ""));
        let refused = matches!(
            weight.trim().strip_prefix("q="),
            Some("0" | "0.0" | "0.00" | "0.000")
        );
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// The same, compressed.
pub(super) fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(text);
    let finished = written.and_then(|()| encoder.finish());
    finished.expect("memory can be written").into()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn only_who_names_gzip_gets_it() {
        let takes = |line: &'static str| {
            let line = http::HeaderValue::from_static(line);
            takes_gzip(&[(ACCEPT_ENCODING, line)].into_iter().collect())
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5, deflate"));
        assert!(!takes("identity") && !takes("br, gzip;q=0") && !takes("x-gzip-not"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_compressed_is_read_as_it_was() {
        let mut read = String::new();
        let compressed = gzip(b"{\"object\":\"list\"}");
        flate2::read::GzDecoder::new(&*compressed)
            .read_to_string(&mut read)
            .unwrap();
        assert_eq!(read, "{\"object\":\"list\"}");
    }
}
