//! The mount table `/proc/self/mountinfo`: proc_pid_mountinfo(5).

use crate::text::in_base;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Id of this mount.
    pub id: u32,
    /// Id of the mount it lies in.
    pub parent: u32,
    /// Device number of the file system: major, minor.
    pub device: (u32, u32),
    /// The folder of the file system that is the mount's root.
    pub root: String,
    /// Where it is mounted.
    pub target: String,
    /// Options of the mount, separated by commas.
    pub options: String,
    /// File-system type.
    pub kind: String,
    /// Where the file system comes from: a device path or a name.
    pub source: String,
    /// Options of the file system, separated by commas.
    pub super_options: String,
}

/// All mounts, in the order in which they were made. Lines that are no mount are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for line in String::from_utf8_lossy(table).lines() {
        mounts.extend(parse_line(line));
    }
    mounts
}

/// The mount that is seen at `target`: the last one there.
pub fn find<'a>(mounts: &'a [Mount], target: &str) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.target == target)
}

fn parse_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let id = in_base(fields.next()?, 10)?;
    let parent = in_base(fields.next()?, 10)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = (in_base(major, 10)?, in_base(minor, 10)?);
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let options = fields.next()?.to_owned();
    // Optional fields (`shared:7`) end with a lone dash.
    fields.by_ref().find(|field| *field == "-")?;
    let kind = fields.next()?.to_owned();
    let source = unescape(fields.next()?);
    let super_options = fields.next().unwrap_or_default().to_owned();
    Some(Mount { id, parent, device, root, target, options, kind, source, super_options })
}

/// Takes the octal escapes (`\040` for a space) out of a field.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = match (first, after.split_first_chunk::<3>()) {
            (b'\\', Some((digits, _))) => octal(*digits),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    crate::number(&digits, 8)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
36 35 98:0 /mnt1 /mnt/with\\040space\\134 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue
40 36 0:5 / /dev rw - devtmpfs dev rw
no mount
41 36 0:6 / /dev rw - tmpfs over rw
";

    #[test]
    fn fields_and_escapes() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].target.as_str(), mounts[0].root.as_str()), ("/mnt/with space\\", "/mnt1"));
        assert_eq!((mounts[0].device, mounts[0].kind.as_str()), ((98, 0), "ext3"));
        assert_eq!(mounts[0].super_options, "rw,errors=continue");
    }

    #[test]
    fn the_last_mount_at_a_place_is_the_one_seen() {
        assert_eq!(find(&parse(TABLE), "/dev").unwrap().kind, "tmpfs");
        assert!(find(&parse(TABLE), "/none").is_none());
    }

    #[test]
    fn never_panics_on_mutated_tables() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..20_000 {
            let mut table = TABLE.to_vec();
            for _ in 0..4 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let index = usize::try_from(random >> 33).unwrap() % table.len();
                table[index] = u8::try_from(random & 0xff).unwrap();
            }
            parse(&table);
        }
    }
}
