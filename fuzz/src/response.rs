//! The responses in all that came on a connection.

/// The statuses of the final responses in `bytes`, in their order. Where not all of them came, the last head may be half of one.
///
/// Whether a response has the body that its head speaks of depends on the request (RFC 9112, section 6.3), of which nothing is known
/// here: it has one unless another response or nothing follows. No body of the agent begins as a response does.
pub fn statuses(mut bytes: &[u8], is_whole: bool) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let Some((head, rest)) = split_at(bytes, b"\r\n\r\n") else {
            assert!(!is_whole, "half a head: {}", bytes.escape_ascii());
            break;
        };
        let head = std::str::from_utf8(head).expect("a head is ASCII").to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with("http/1.1 ") || line.starts_with("http/1.0 "), "{line:?} in {}", bytes.escape_ascii());
        let status: u16 = line[9..12].parse().expect("a status has three digits");
        let (mut length, mut is_chunked) = (None, false);
        for line in lines {
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse::<usize>().ok(),
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                Some(_) => {}
                None => panic!("no header: {line:?}"),
            }
        }
        bytes = rest;
        if status < 200 {
            continue;
        }
        statuses.push(status);
        if bytes.starts_with(b"HTTP/1.") || bytes.is_empty() {
            continue;
        }
        bytes = match length {
            _ if is_chunked => after_chunks(bytes),
            Some(length) => bytes.get(length..).unwrap_or_default(),
            // Until the connection ends.
            None => &[],
        };
    }
    statuses
}

fn after_chunks(mut bytes: &[u8]) -> &[u8] {
    while let Some((size, rest)) = split_at(bytes, b"\r\n") {
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.unwrap_or(0);
        bytes = rest.get(size + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    bytes
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}
