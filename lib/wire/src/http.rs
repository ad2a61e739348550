//! HTTP/1.1 message framing (RFC 9112): heads, body lengths, the chunked coding, request targets; and the
//! frames in which the engine API multiplexes a container's output (Docker Engine API, "Stream format").
//!
//! A message is accepted only where its framing is beyond doubt: two parties that read one byte stream in two
//! ways is how requests are smuggled (RFC 9112, section 11.2).

mod challenge;
mod chunked;
mod frames;
mod head;
mod target;

pub use challenge::{Challenge, parse_challenges};
pub use chunked::{BodyDecoder, BodyError, LAST_CHUNK, write_chunk};
pub use frames::{BadFrame, FRAME_HEADER, FrameDecoder, frame_header};
pub use head::{
    Framing, HeadError, Headers, RequestHead, ResponseHead, parse_request, parse_response, reason,
    request_framing, response_framing, write_request_head, write_response_head,
};
pub use target::{Target, escape, parse_target};
