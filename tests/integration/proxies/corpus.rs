//! Requests that two programs may cut into different ones: where the one sees a body, the other sees another request.

/// Names and bytes. Each path begins with the number of its request.
pub(super) fn all() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, bytes) in lengths().into_iter().chain(bodies()).chain(heads()) {
        let number = all.len();
        all.push((name.to_owned(), bytes.replace("/N", &format!("/c{number}")).into_bytes()));
    }
    all
}

const HIDDEN: &str = "GET /N-hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Headers that two could read two lengths from. What follows is a body of chunks, of which a length counts a part, and a request.
fn lengths() -> Vec<(&'static str, String)> {
    let headers = [
        ("length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ("length 0 and chunks", "Content-Length: 0\r\nTransfer-Encoding: chunked"),
        ("a blank before the colon", "Content-Length: 5\r\nTransfer-Encoding : chunked"),
        ("a tab before the colon", "Content-Length: 5\r\nTransfer-Encoding\t: chunked"),
        ("a tab before the value", "Content-Length: 5\r\nTransfer-Encoding:\tchunked"),
        ("a vertical tab before the value", "Content-Length: 5\r\nTransfer-Encoding: \u{b}chunked"),
        ("a form feed after the value", "Content-Length: 5\r\nTransfer-Encoding: chunked\u{c}"),
        ("a NUL after the value", "Content-Length: 5\r\nTransfer-Encoding: chunked\0"),
        ("a blank before the name", "Content-Length: 5\r\n Transfer-Encoding: chunked"),
        ("folded", "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked"),
        ("folded in the value", "Content-Length: 5\r\nTransfer-Encoding: chun\r\n ked"),
        ("a bare line feed before it", "Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked"),
        ("a bare carriage return before it", "Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked"),
        ("upper case", "Content-Length: 5\r\nTRANSFER-ENCODING: CHUNKED"),
        ("xchunked", "Content-Length: 5\r\nTransfer-Encoding: xchunked"),
        ("quoted", "Content-Length: 5\r\nTransfer-Encoding: \"chunked\""),
        ("identity", "Content-Length: 5\r\nTransfer-Encoding: identity"),
        ("chunked and identity", "Content-Length: 5\r\nTransfer-Encoding: chunked, identity"),
        ("identity and chunked", "Content-Length: 5\r\nTransfer-Encoding: identity, chunked"),
        ("gzip and chunked", "Content-Length: 5\r\nTransfer-Encoding: gzip, chunked"),
        ("chunked twice in a list", "Content-Length: 5\r\nTransfer-Encoding: chunked, chunked"),
        ("chunked twice", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked and another", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x"),
        ("another and chunked", "Content-Length: 5\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked"),
        ("an empty coding", "Content-Length: 5\r\nTransfer-Encoding:"),
        ("an empty coding in a list", "Content-Length: 5\r\nTransfer-Encoding: ,chunked"),
        ("a parameter", "Content-Length: 5\r\nTransfer-Encoding: chunked;x=y"),
        ("an underscore", "Content-Length: 5\r\nTransfer_Encoding: chunked"),
        ("a letter that looks alike", "Content-Length: 5\r\nTransfer-Encod\u{131}ng: chunked"),
        ("chunks for this hop", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: Transfer-Encoding"),
        ("length for this hop", "Content-Length: 5\r\nConnection: keep-alive, Content-Length"),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 0"),
        ("two lengths, the other first", "Content-Length: 0\r\nContent-Length: 5"),
        ("the same length twice", "Content-Length: 5\r\nContent-Length: 5"),
        ("two lengths in a list", "Content-Length: 5, 0"),
        ("the same length twice in a list", "Content-Length: 5, 5"),
        ("a length with a sign", "Content-Length: +5"),
        ("a negative length", "Content-Length: -5"),
        ("a length with zeros", "Content-Length: 005"),
        ("a hexadecimal length", "Content-Length: 0x5"),
        ("a length with a fraction", "Content-Length: 5.0"),
        ("a length with a letter", "Content-Length: 5a"),
        ("a length with a blank", "Content-Length: 5 0"),
        ("a quoted length", "Content-Length: \"5\""),
        ("an empty length", "Content-Length:"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551621"),
        ("a length in other digits", "Content-Length: \u{665}"),
        ("an underscored length", "Content_Length: 5"),
        ("a length after a blank name", "Content-Length : 5"),
        ("a folded length", "Content-Length:\r\n 5"),
        ("no length", "X: y"),
    ];
    let request = |headers: &str| {
        let chunks = format!("{:x}\r\nx\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len() + 3);
        format!("POST /N HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{chunks}{HIDDEN}")
    };
    let mut all: Vec<_> = headers.map(|(name, headers)| (name, request(headers))).into();
    for (name, method) in [("chunks of a GET", "GET"), ("chunks of a HEAD", "HEAD"), ("chunks of a TRACE", "TRACE")] {
        all.push((name, request("Transfer-Encoding: chunked").replacen("POST", method, 1)));
    }
    all.push(("chunks in version 1.0", request("Transfer-Encoding: chunked").replacen("1.1", "1.0", 1)));
    all.push((
        "chunks and length in version 1.0",
        request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive").replacen("1.1", "1.0", 1),
    ));
    all
}

/// Bodies of chunks whose borders could be seen elsewhere.
fn bodies() -> Vec<(&'static str, String)> {
    let bodies = [
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a line feed", "5;a=\nb\r\nhello\r\n0\r\n\r\n"),
        ("a quoted extension with a line end", "5;a=\"\r\nhello\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a blank before it", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a blank after it", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a size with zeros", "00000000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("bare line feeds", "5\nhello\n0\n\n"),
        ("a bare line feed after the size", "5\nhello\r\n0\r\n\r\n"),
        ("a bare line feed at the end", "5\r\nhello\r\n0\n\n"),
        ("no line end after the chunk", "5\r\nhello0\r\n\r\n"),
        ("another line end after the chunk", "5\r\nhelloXX0\r\n\r\n"),
        ("a chunk that is longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
        ("a last chunk of many zeros", "5\r\nhello\r\n0000\r\n\r\n"),
        ("trailers with a length", "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
        ("trailers with a coding", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("a trailer that is a request", "5\r\nhello\r\n0\r\nGET /N-trailer HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nnothing\r\n\r\n"),
        ("no end", "5\r\nhello\r\n"),
    ];
    let head = "POST /N HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    bodies.map(|(name, body)| (name, format!("{head}{body}{HIDDEN}"))).into()
}

/// Heads whose target or end could be seen elsewhere, and requests that end in something else.
fn heads() -> Vec<(&'static str, String)> {
    let with_hidden = [
        ("pipelined", "GET /N HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("pipelined after a HEAD", "HEAD /N HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("line ends before it", "\r\n\r\nGET /N HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bare line feeds in a head", "GET /N HTTP/1.1\nHost: a\n\n"),
        ("a line feed in the middle", "GET /N HTTP/1.1\r\nHost: a\r\nX: a\n\r\nGET /N-b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("version 1.0, kept alive", "GET /N HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
        ("version 1.0", "GET /N HTTP/1.0\r\nHost: a\r\n\r\n"),
        ("version 0.9", "GET /N\r\n"),
        ("version 1.2", "GET /N HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("version 2.0", "GET /N HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("the preface of version 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("two hosts", "GET /N HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no host", "GET /N HTTP/1.1\r\nX: y\r\n\r\n"),
        ("a target with a host", "GET http://b/N HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two blanks", "GET  /N HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("tabs", "GET\t/N\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a blank in the target", "GET /N HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a header without a colon", "GET /N HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"),
        ("a header with a blank in its name", "GET /N HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n"),
        ("an empty name", "GET /N HTTP/1.1\r\nHost: a\r\n: c\r\n\r\n"),
        ("a folded first line", "GET /N HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
        ("an upgrade to websocket", "GET /N HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (
            "an upgrade to websocket with a length",
            "POST /N HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "an upgrade to version 2",
            "GET /N HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        ),
        ("a tunnel", "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n"),
        ("continue first", "POST /N HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
        ("another expectation", "POST /N HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello"),
        ("a GET with a body", "GET /N HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ("a HEAD with a body", "HEAD /N HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ("a method of its own", "HIDE /N HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ("a lower-case method", "post /N HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        ("a large body", "POST /N HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"),
    ];
    let mut all: Vec<_> = with_hidden.map(|(name, head)| (name, format!("{head}{HIDDEN}"))).into();
    let large = format!("{}{HIDDEN}", "x".repeat(100_000));
    all.push((
        "a body that is too large",
        format!("PUT /N HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{large}"),
    ));
    all.push(("half a head", "GET /N HTTP/1.1\r\nHost: a\r\n".to_owned()));
    all.push(("half a body", "POST /N HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello".to_owned()));
    all
}
