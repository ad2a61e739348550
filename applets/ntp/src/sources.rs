//! Lists of servers in chrony's format (chrony.conf(5)): `pool|server HOST [OPTION]...`, a line each.

use minke_applet::log;
use minke_sys::file;
use minke_wire::ntp::PORT;
use minke_wire::text;
use std::path::Path;

/// Bytes of a list that are read.
const LIMIT: usize = 64 * 1024;
/// The most lines that count.
const MOST: usize = 32;
/// The longest interval, as a power of two in seconds (MAXPOLL of RFC 5905).
const MAXPOLL: i8 = 17;
/// Servers of a pool when its line says nothing (chrony.conf(5)).
const POOL: usize = 4;

/// What a line says about asking a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Several questions at the start.
    pub(crate) iburst: bool,
    /// Least interval, as a power of two in seconds.
    pub(crate) minpoll: i8,
    /// Greatest interval.
    pub(crate) maxpoll: i8,
    /// To be preferred to others.
    pub(crate) prefer: bool,
    /// Answers must be authenticated by NTS.
    pub(crate) nts: bool,
    /// The TCP port of NTS key exchanges.
    pub(crate) nts_port: u16,
    /// Interleaved mode.
    pub(crate) xleave: bool,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Name or address.
    pub(crate) host: String,
    /// UDP port.
    pub(crate) port: u16,
    /// The name stands for many servers.
    pub(crate) pool: bool,
    /// How many of its addresses are asked.
    pub(crate) servers: usize,
    pub(crate) options: Options,
}

/// Reads the main list and every `*.sources` file in `folder`, in the order of their names. Unknown directives of the
/// main list belong to others and are passed over; what is wrong gets one log line each.
pub(crate) fn read(main: &Path, folder: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    parse(&file::text(main), main, &mut lines);
    for path in file::list(folder).unwrap_or_default() {
        if path.extension().is_some_and(|extension| extension == "sources") {
            let bytes = file::read_bounded(&path, LIMIT).unwrap_or_default();
            parse(&String::from_utf8_lossy(&bytes), &path, &mut lines);
        }
    }
    lines
}

/// Adds the servers of `content`, which stands in `path`.
pub(crate) fn parse(content: &str, path: &Path, lines: &mut Vec<Line>) {
    let mut number = 0u32;
    for line in content.lines() {
        number = number.wrapping_add(1);
        let mut words = line.split_ascii_whitespace();
        let pool = match words.next() {
            Some("pool") => true,
            Some("server" | "peer") => false,
            _ => continue,
        };
        let complain = |what: &str, word: &str| {
            let word = text::shown(word.get(..80).unwrap_or(word));
            log::warn(format_args!("{}:{number}: {what}{word}", path.display()));
        };
        let Some(host) = words.next() else {
            complain("the server's name is missing", "");
            continue;
        };
        if !is_host(host) {
            complain("no host name: ", host);
            continue;
        }
        let mut new = Line {
            host: host.to_owned(),
            port: PORT,
            pool,
            servers: if pool { POOL } else { 1 },
            options: Options {
                iburst: false,
                minpoll: 6,
                maxpoll: 10,
                prefer: false,
                nts: false,
                nts_port: minke_wire::nts::PORT,
                xleave: false,
            },
        };
        while let Some(word) = words.next() {
            if let Err(what) = option(&mut new, word, &mut words) {
                complain(what, word);
            }
        }
        new.options.maxpoll = new.options.maxpoll.max(new.options.minpoll);
        if new.options.nts {
            // Keys are exchanged with one server.
            new.servers = 1;
        }
        if lines.iter().any(|old| old.host == new.host && old.port == new.port) {
            continue;
        }
        if lines.len() >= MOST {
            complain("too many servers; left out: ", host);
            continue;
        }
        lines.push(new);
    }
}

fn option<'a>(
    line: &mut Line,
    word: &str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), &'static str> {
    let options = &mut line.options;
    match word {
        "iburst" => options.iburst = true,
        "prefer" | "trust" => options.prefer = true,
        "nts" => options.nts = true,
        "xleave" => options.xleave = true,
        "minpoll" | "maxpoll" | "port" | "ntsport" | "maxsources" => {
            let value: Option<i32> = words.next().and_then(text::number);
            let value = value.ok_or("a number is missing after ")?;
            let poll = i8::try_from(value.clamp(-7, MAXPOLL.into())).unwrap_or(MAXPOLL);
            match word {
                "minpoll" => {
                    options.minpoll = poll;
                    options.maxpoll = options.maxpoll.max(poll);
                }
                "maxpoll" => options.maxpoll = poll,
                "port" | "ntsport" => {
                    let port = u16::try_from(value).map_err(|_| "a number is missing after ")?;
                    *(if word == "port" { &mut line.port } else { &mut options.nts_port }) = port;
                }
                _ => line.servers = usize::try_from(value.clamp(1, 16)).unwrap_or(1),
            }
        }
        // What these say has no meaning here: their values are not options.
        "polltarget" | "version" | "minsamples" | "maxsamples" | "maxdelay" | "maxdelayratio"
        | "mindelay" | "maxdelaydevratio" | "asymmetry" | "offset" | "minstratum" | "key" | "filter"
        | "presend" | "extfield" | "certset" => _ = words.next(),
        "auto_offline" | "offline" | "burst" | "noselect" | "require" | "copy" => {}
        _ => return Err("unknown option: "),
    }
    Ok(())
}

/// Whether it can be a name or an address; whether there is one shows later.
fn is_host(word: &str) -> bool {
    word.len() <= 253
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(content: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        parse(content, Path::new("test.sources"), &mut lines);
        lines
    }

    #[test]
    fn lines_as_the_device_has_them() {
        let found =
            lines("pool 0.pool.example iburst minpoll 14 maxpoll 14 maxsources 1\n\n# x\nserver 10.0.0.1\n");
        let options = Options {
            iburst: true,
            minpoll: 14,
            maxpoll: 14,
            prefer: false,
            nts: false,
            nts_port: 4460,
            xleave: false,
        };
        let pool = Line { host: "0.pool.example".into(), port: 123, pool: true, servers: 1, options };
        assert_eq!(found[0], pool);
        assert_eq!((found[1].host.as_str(), found[1].pool, found[1].servers), ("10.0.0.1", false, 1));
        assert_eq!((found[1].options.minpoll, found[1].options.maxpoll), (6, 10));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn other_options() {
        let found = lines(
            "server time.example port 1123 nts prefer xleave key 7 minpoll 3 nonsense maxpoll 2\npool p",
        );
        let options = found[0].options;
        assert!(options.nts && options.prefer && options.xleave && !options.iburst);
        assert_eq!((found[0].port, options.minpoll, options.maxpoll), (1123, 3, 3));
        assert_eq!((found[1].servers, found[1].pool), (4, true));
        assert_eq!(lines("server a minpoll 12")[0].options.maxpoll, 12);
    }

    #[test]
    fn servers_with_nts() {
        let found =
            lines("pool p nts maxsources 4\nserver s port 1123 ntsport 5460 nts\nserver t ntsport x nts");
        let of = |line: &Line| (line.servers, line.port, line.options.nts, line.options.nts_port);
        assert_eq!((of(&found[0]), of(&found[1])), ((1, 123, true, 4460), (1, 1123, true, 5460)));
        assert_eq!(of(&found[2]), (1, 123, true, 4460));
    }

    #[test]
    fn garbage_is_passed_over() {
        let noise = "pool\nserver a;b\nservers c\nserver \u{fc}\nserver a minpoll\nserver b port 99999 maxsources -3\n\0\n";
        let found = lines(noise);
        let hosts: Vec<_> = found.iter().map(|line| line.host.as_str()).collect();
        assert_eq!(hosts, ["a", "b"]);
        assert_eq!(found[1].servers, 1);
        let many: String = (0..100).map(|number| format!("server h{number}\nserver h0\n")).collect();
        assert_eq!(lines(&many).len(), 32);
    }
}
