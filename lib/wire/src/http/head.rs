//! Request and response heads, by the crate `httparse`, and what they say about the body.

use std::fmt;

/// Most header fields of one head. The engine's and the supervisor's clients send about ten.
pub const MAX_HEADERS: usize = 64;

/// Header fields in order of arrival; names compare without case (RFC 9110, section 5.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a field, after any of the same name.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The values of all fields of this name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (field, value) in &self.0 {
            if field.eq_ignore_ascii_case(name) {
                values.push(value.as_str());
            }
        }
        values
    }

    /// Whether a field whose value is a list of tokens holds `token`, for instance `Connection: close`.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let is_token = |word: &str| word.trim().eq_ignore_ascii_case(token);
        self.all(name).iter().any(|value| value.split(',').any(is_token))
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What stands before a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, for instance `GET`.
    pub method: String,
    /// The request target as sent: path and query, not decoded.
    pub target: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The header fields.
    pub headers: Headers,
}

impl RequestHead {
    /// Whether the connection may carry another request after this one (RFC 9112, section 9.3).
    pub fn keeps_alive(&self) -> bool {
        match self.minor_version {
            0 => self.headers.has_token("connection", "keep-alive"),
            _ => !self.headers.has_token("connection", "close"),
        }
    }
}

/// What stands before a response's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
}

/// Why a head is refused; a server answers with [`HeadError::status`] and closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP, or framing that could be read in two ways.
    Malformed,
    /// More than [`MAX_HEADERS`] fields, or more bytes than the reader allows.
    TooLarge,
    /// A transfer coding other than `chunked`.
    Coding,
    /// HTTP of another major version.
    Version,
}

impl HeadError {
    /// The status code that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge => 431,
            Self::Coding => 501,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed HTTP head",
            Self::TooLarge => "HTTP head too large",
            Self::Coding => "unsupported transfer coding",
            Self::Version => "unsupported HTTP version",
        })
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::Version => Self::Version,
            _ => Self::Malformed,
        }
    }
}

/// Reads a request head from the start of `input`; with it comes its length in bytes. `None`: it is not
/// complete yet.
pub fn parse_request(input: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut fields = empty_fields();
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(input)? else { return Ok(None) };
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        minor_version: request.version.unwrap_or(0),
        headers: collect(request.headers),
    };
    // RFC 9112, section 3.2: exactly one Host field in HTTP/1.1.
    let hosts = head.headers.all("host").len();
    if hosts > 1 || (hosts == 0 && head.minor_version >= 1) {
        return Err(HeadError::Malformed);
    }
    Ok(Some((head, length)))
}

/// Reads a response head from the start of `input`; with it comes its length in bytes. `None`: it is not
/// complete yet.
pub fn parse_response(input: &[u8]) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let mut fields = empty_fields();
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(input)? else { return Ok(None) };
    let head = ResponseHead { status: response.code.unwrap_or_default(), headers: collect(response.headers) };
    Ok(Some((head, length)))
}

/// Room for the fields of a head; too large for the stack of a small processor.
fn empty_fields<'a>() -> Vec<httparse::Header<'a>> {
    vec![httparse::EMPTY_HEADER; MAX_HEADERS]
}

fn collect(fields: &[httparse::Header<'_>]) -> Headers {
    let mut headers = Headers::new();
    for field in fields {
        headers.push(field.name, &String::from_utf8_lossy(field.value));
    }
    headers
}

/// How the end of a body is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection ends; responses alone.
    Close,
}

/// How a request's body ends; without any field about it there is none.
pub fn request_framing(head: &RequestHead) -> Result<Framing, HeadError> {
    let length = content_length(&head.headers)?;
    if head.headers.get("transfer-encoding").is_none() {
        return Ok(Framing::Length(length.unwrap_or(0)));
    }
    // Both fields, or a coding in HTTP/1.0, is what a smuggled request looks like.
    if length.is_some() || head.minor_version == 0 {
        return Err(HeadError::Malformed);
    }
    chunked_alone(&head.headers)
}

/// How the body of the response to a `method` request ends.
pub fn response_framing(method: &str, head: &ResponseHead) -> Result<Framing, HeadError> {
    if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if head.headers.get("transfer-encoding").is_some() {
        return chunked_alone(&head.headers);
    }
    Ok(content_length(&head.headers)?.map_or(Framing::Close, Framing::Length))
}

fn chunked_alone(headers: &Headers) -> Result<Framing, HeadError> {
    match headers.all("transfer-encoding")[..] {
        [coding] if coding.trim().eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(HeadError::Coding),
    }
}

fn content_length(headers: &Headers) -> Result<Option<u64>, HeadError> {
    match headers.all("content-length")[..] {
        [] => Ok(None),
        // Several fields are refused even when they agree.
        [value] => crate::text::in_base(value, 10).map(Some).ok_or(HeadError::Malformed),
        _ => Err(HeadError::Malformed),
    }
}

/// Writes a request head up to and with the empty line.
pub fn write_request_head(method: &str, target: &str, headers: &Headers, out: &mut Vec<u8>) {
    write_text(method, out);
    out.push(b' ');
    // A blank or a line end would end the request line early.
    out.extend(target.bytes().filter(|byte| byte.is_ascii_graphic()));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(headers, out);
}

/// Writes a response head up to and with the empty line.
pub fn write_response_head(status: u16, headers: &Headers, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    write_fields(headers, out);
}

fn write_fields(headers: &Headers, out: &mut Vec<u8>) {
    for (name, value) in headers.iter() {
        write_text(name, out);
        out.extend_from_slice(b": ");
        write_text(value, out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Control characters are left out: a value that came from outside must not begin a new field.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes().filter(|byte| *byte == b'\t' || !byte.is_ascii_control()));
}

/// The status codes that the programs use, with their reason phrases (RFC 9110, section 15).
const REASONS: &str = "100 Continue
101 Switching Protocols
200 OK
201 Created
202 Accepted
204 No Content
304 Not Modified
400 Bad Request
401 Unauthorized
403 Forbidden
404 Not Found
405 Method Not Allowed
408 Request Timeout
409 Conflict
413 Content Too Large
423 Locked
431 Request Header Fields Too Large
500 Internal Server Error
501 Not Implemented
503 Service Unavailable
505 HTTP Version Not Supported";

/// The reason phrase of a status code. It may be empty (RFC 9112, section 4).
#[inline(never)]
pub fn reason(status: u16) -> &'static str {
    let code = status.to_string();
    let phrase = REASONS.split('\n').find_map(|line| line.strip_prefix(code.as_str())?.strip_prefix(' '));
    phrase.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(fields: &str) -> Result<Framing, HeadError> {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, length) = parse_request(text.as_bytes())?.unwrap();
        assert_eq!(length, text.len());
        request_framing(&head)
    }

    #[test]
    fn a_head_in_pieces_is_incomplete_until_its_last_byte() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: Foo, Close\r\n\r\nrest";
        for end in 0..text.len() - 4 {
            assert_eq!(parse_request(&text[..end]).unwrap(), None, "{end}");
        }
        let (head, length) = parse_request(text).unwrap().unwrap();
        assert_eq!((&*head.method, &*head.target, length), ("GET", "/a?b=c", text.len() - 4));
        assert!(!head.keeps_alive());
    }

    #[test]
    fn old_clients_keep_the_connection_only_when_they_say_so() {
        let head = |text: &[u8]| parse_request(text).unwrap().unwrap().0;
        assert!(!head(b"GET / HTTP/1.0\r\n\r\n").keeps_alive());
        assert!(head(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keeps_alive());
        assert!(head(b"GET / HTTP/1.1\r\nHost:\r\n\r\n").keeps_alive());
    }

    #[test]
    fn framing_that_is_beyond_doubt() {
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
    }

    #[test]
    fn framing_that_two_parties_could_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: \r\n",
            "Host: b\r\n",
        ] {
            assert_eq!(framing(fields), Err(HeadError::Malformed), "{fields}");
        }
        assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(HeadError::Coding));
        assert_eq!(framing("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), Err(HeadError::Coding));
        assert!(framing("Content-Length : 1\r\n").is_err());
        assert!(parse_request(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert_eq!(parse_request(b"GET / HTTP/2.0\r\n\r\n"), Err(HeadError::Version));
    }

    #[test]
    fn too_many_fields_are_too_large() {
        assert_eq!(framing(&"a: b\r\n".repeat(MAX_HEADERS)), Err(HeadError::TooLarge));
    }

    #[test]
    fn responses_without_a_body_and_until_the_end() {
        let framing = |method, text: &str| {
            let (head, _) = parse_response(text.as_bytes()).unwrap().unwrap();
            response_framing(method, &head).unwrap()
        };
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(framing("GET", text), Framing::Length(5));
        assert_eq!(framing("HEAD", text), Framing::Length(0));
        assert_eq!(framing("GET", "HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n"), Framing::Length(0));
        assert_eq!(framing("GET", "HTTP/1.0 200 OK\r\n\r\n"), Framing::Close);
    }

    #[test]
    fn a_written_head_reads_back_and_cannot_be_split() {
        let mut out = Vec::new();
        let mut headers = Headers::new();
        headers.push("Host", "a");
        headers.push("Q", "1\r\nSet: 2");
        write_request_head("GET", "/a b\r\nX: y", &headers, &mut out);
        let (head, _) = parse_request(&out).unwrap().unwrap();
        assert_eq!(head.target, "/abX:y");
        assert_eq!(head.headers.iter().collect::<Vec<_>>(), [("Host", "a"), ("Q", "1Set: 2")]);
        out.clear();
        let mut headers = Headers::new();
        headers.push("A", "b");
        write_response_head(404, &headers, &mut out);
        assert_eq!(out, b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n");
    }

    #[test]
    fn mutated_heads_never_panic() {
        let seed =
            b"POST /v1.43/containers/create?name=a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        super::super::chunked::tests::mutate(seed, 200_000, |input| {
            if let Ok(Some((head, length))) = parse_request(input) {
                assert!(length <= input.len());
                let _ = request_framing(&head);
            }
            if let Ok(Some((head, _))) = parse_response(input) {
                let _ = response_framing("GET", &head);
            }
        });
    }
}
