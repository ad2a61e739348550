//! `mdns publish`: a service that is there as long as the command runs.

use crate::services::is_type;
use crate::show::{socket, unanswered, wrong};
use minke_applet::{Args, Flag, log, outln};
use minke_control::mdns::{Service, publish};
use minke_wire::json::Value;
use minke_wire::text;

pub(crate) const SUBTYPE_FLAG: Flag = Flag {
    short: None,
    long: "subtype",
    value: Some("NAME"),
    help: "publish: a subtype, _printer or _printer._sub._http._tcp; may be repeated",
};

/// `mdns publish NAME TYPE PORT [TXT…]`.
pub(crate) fn run(args: &Args) -> u8 {
    let (Some(name), Some(kind), Some(port)) = (args.operand(1), args.operand(2), args.operand(3)) else {
        return wrong("name", "");
    };
    if !is_type(kind) {
        return wrong("type such as _http._tcp", kind);
    }
    let Some(number) = text::number::<u16>(port) else { return wrong("port", port) };
    let mut txt = Vec::new();
    for word in args.operands().iter().skip(4) {
        txt.push(word.as_encoded_bytes().to_vec());
    }
    let service = Service {
        name: name.to_owned(),
        kind: kind.to_owned(),
        subtypes: args.values(SUBTYPE_FLAG.long).map(str::to_owned).collect(),
        port: number,
        txt,
    };
    let stream = match publish(&socket(args), service) {
        Ok(stream) => stream,
        Err(error) => return unanswered(&error),
    };
    for line in stream {
        match line {
            Ok(value) => {
                outln!("published: {}", value.get("name").and_then(Value::as_str).unwrap_or_default());
            }
            Err(error) => return unanswered(&error),
        }
    }
    log::error(format_args!("the responder has ended, and the service with it"));
    1
}
