//! Kernel modules: the texts below `/lib/modules/RELEASE` that depmod(8) writes.
//!
//! Module names compare with `-` and `_` equal. Lookups scan the text: they happen a few times in a boot, and
//! an index would cost memory for the whole of it.

/// A module name with every `-` as `_`: the form in which the kernel knows it.
pub fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

/// The module name that a file's path stands for: the last component without `.ko` and what follows.
pub fn name_of(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    crate::text::find(file, ".ko").and_then(|end| file.get(..end)).unwrap_or(file)
}

/// The entry of `name` in `modules.dep`: its file and the files that must be loaded before, first the one that
/// depends on nothing. Paths are relative to the folder of `modules.dep`, or absolute.
pub fn dependencies<'a>(modules_dep: &'a str, name: &str) -> Option<(&'a str, Vec<&'a str>)> {
    modules_dep.lines().find_map(|line| {
        let (path, needs) = line.split_once(':')?;
        if !same(name_of(path), name) {
            return None;
        }
        // depmod lists them from the module down.
        Some((path, needs.split_whitespace().rev().collect()))
    })
}

/// Whether `modules.builtin` names the module: it is part of the kernel.
pub fn is_builtin(modules_builtin: &str, name: &str) -> bool {
    modules_builtin.lines().any(|line| same(name_of(line), name))
}

/// The modules that `modules.softdep` wants before and after `name`.
pub fn soft_dependencies<'a>(modules_softdep: &'a str, name: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for line in modules_softdep.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("softdep") || !words.next().is_some_and(|word| same(word, name)) {
            continue;
        }
        let mut is_before = true;
        for word in words {
            match word {
                "pre:" => is_before = true,
                "post:" => is_before = false,
                _ if is_before => before.push(word),
                _ => after.push(word),
            }
        }
    }
    (before, after)
}

/// The modules whose pattern in `modules.alias` matches `alias`, in the file's order.
pub fn resolve_alias<'a>(modules_alias: &'a str, alias: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for line in modules_alias.lines() {
        let mut words = line.split_whitespace();
        let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !found.contains(&module) && matches(pattern.as_bytes(), alias.as_bytes()) {
            found.push(module);
        }
    }
    found
}

/// Whether a shell pattern (`*`, `?`, `[a-z]`) matches the whole of `text`; `-` and `_` are equal.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when a `*` must take one byte more: only the last star matters.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, text));
                pattern = after;
                continue;
            }
            (None, None) => return true,
            (Some((first, after)), Some((byte, rest))) => {
                match_one(*first, after, *byte).map(|after| (after, rest))
            }
            _ => None,
        };
        if let Some((after, rest)) = step {
            (pattern, text) = (after, rest);
            continue;
        }
        let Some((after_star, from)) = retry else { return false };
        let Some((_, shorter)) = from.split_first() else { return false };
        retry = Some((after_star, shorter));
        (pattern, text) = (after_star, shorter);
    }
}

/// The pattern's rest when its element that begins with `first` matches `byte`.
fn match_one(first: u8, after: &[u8], byte: u8) -> Option<&[u8]> {
    match first {
        b'?' => Some(after),
        b'[' => match_class(after, byte),
        _ if dash(first) == dash(byte) => Some(after),
        _ => None,
    }
}

fn match_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let end = class.iter().skip(1).position(|byte| *byte == b']')?.checked_add(1)?;
    let (members, after) = (class.get(..end)?, class.get(end.checked_add(1)?..)?);
    let (negated, members) = match members.split_first() {
        Some((b'!' | b'^', members)) => (true, members),
        _ => (false, members),
    };
    let mut found = false;
    let mut rest = members;
    while let Some((low, others)) = rest.split_first() {
        match others.split_first_chunk::<2>() {
            Some(([b'-', high], others)) => {
                found |= (*low..=*high).contains(&byte);
                rest = others;
            }
            _ => {
                found |= *low == byte;
                rest = others;
            }
        }
    }
    (found != negated).then_some(after)
}

fn dash(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().map(dash).eq(other.bytes().map(dash))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/crypto/crc32c_generic.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc16.ko
kernel/net/nf-tables.ko.xz: kernel/net/nfnetlink.ko.xz
";

    #[test]
    fn dependencies_come_in_loading_order() {
        let (path, needs) = dependencies(DEP, "ext4").unwrap();
        assert_eq!(path, "kernel/fs/ext4/ext4.ko");
        assert_eq!(needs, ["kernel/lib/crc16.ko", "kernel/fs/mbcache.ko", "kernel/fs/jbd2/jbd2.ko"]);
        assert_eq!(dependencies(DEP, "nf_tables").unwrap().0, "kernel/net/nf-tables.ko.xz");
        assert_eq!(dependencies(DEP, "crc32c-generic").unwrap().1.len(), 0);
        assert!(dependencies(DEP, "ext").is_none());
    }

    #[test]
    fn soft_dependencies_before_and_after() {
        let text = "# comment\nsoftdep ext4 pre: crc32c\nsoftdep a-b pre: x y post: z\n";
        assert_eq!(soft_dependencies(text, "ext4").0, ["crc32c"]);
        assert_eq!(soft_dependencies(text, "a_b"), (vec!["x", "y"], vec!["z"]));
    }

    #[test]
    fn aliases_by_pattern() {
        let text = "\
# Aliases
alias fs-ext4 ext4
alias crc32c crc32c_generic
alias crypto-crc32c crc32c_generic
alias virtio:d00000002v* virtio_blk
alias usb:v0BDAp815[2-4]d*dc*in* r8152
alias crypto-crc32c crc32c_intel
";
        assert_eq!(resolve_alias(text, "fs-ext4"), ["ext4"]);
        assert_eq!(resolve_alias(text, "fs_ext4"), ["ext4"]);
        assert_eq!(resolve_alias(text, "virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(resolve_alias(text, "crypto-crc32c"), ["crc32c_generic", "crc32c_intel"]);
        assert_eq!(resolve_alias(text, "usb:v0BDAp8153d3000dc00in00"), ["r8152"]);
        assert!(resolve_alias(text, "usb:v0BDAp8155d3000dc00in00").is_empty());
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("?", "", false),
            ("[!a]", "b", true),
            ("[!a]", "a", false),
            ("[]", "]", false),
            ("[a", "a", false),
            ("[a-", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn builtin() {
        assert!(is_builtin("kernel/fs/ext4/ext4.ko\n", "ext4"));
        assert!(!is_builtin("kernel/fs/ext4/ext4.ko\n", "ext"));
    }

    #[test]
    fn never_panics_on_mutated_input() {
        let seed = b"alias usb:v*p[0-9]?d[!a-c]* mod\nsoftdep x pre: a post: b\nkernel/x.ko: kernel/y.ko\n";
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..6 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let index = usize::try_from(random >> 33).unwrap() % bytes.len();
                bytes[index] = u8::try_from(random & 0x7f).unwrap();
            }
            let text = String::from_utf8(bytes).unwrap();
            resolve_alias(&text, "usb:v1p2d3");
            soft_dependencies(&text, "x");
            dependencies(&text, "x");
            is_builtin(&text, "x");
        }
    }
}
