//! Random documents and random leftovers, by seeds: nothing panics, and nothing that was whole is lost.

use crate::{Config, Paths, Store, fatrw, host_name, keys, md5, mistyped, settings, units, value_of};
use std::path::PathBuf;

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % limit
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A document of some depth.
    fn value(&mut self, depth: usize) -> String {
        let kinds = if depth == 0 { 8 } else { 10 };
        match self.below(kinds) {
            0 => "null".into(),
            1 => (self.one_of(&["true", "false", "\"true\"", "\"\""])).into(),
            2 => (self.one_of(&["0", "-1", "1.50", "1e400", "12345678901234567890123", "\"48484\""])).into(),
            3..8 => (self.one_of(&[
                r#""a b""#,
                r#""\u0000\n\"\\""#,
                r#""ssh-ed25519 AAAA x""#,
                r#""../../etc/passwd""#,
                r#""ü😀""#,
                r#""null""#,
                r#""https://api.example.com""#,
            ]))
            .into(),
            8 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let count = self.below(4);
                let members: Vec<String> = (0..count).map(|_| self.member(depth - 1)).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    fn member(&mut self, depth: usize) -> String {
        const NAMES: [&str; 9] =
            ["os", "network", "wifi", "udevRules", "sshKeys", "connectivity", "uri", "mine", "a.b"];
        let all: Vec<&str> = keys().map(|key| key.path).collect();
        let name = if self.below(2) == 0 { self.one_of(&all) } else { self.one_of(&NAMES) };
        format!("\"{name}\":{}", self.value(depth))
    }

    fn document(&mut self) -> String {
        let members: Vec<String> = (0..self.below(8)).map(|_| self.member(4)).collect();
        format!("{{{}}}", members.join(if self.below(2) == 0 { "," } else { ",\r\n " }))
    }
}

#[test]
fn the_model_takes_any_document_and_any_change() {
    let mut random = Random(0x0123_4567_89AB_CDEF);
    let paths: Vec<&str> = keys().map(|key| key.path).collect();
    for _ in 0..4_000 {
        let text = random.document();
        let mut config = Config::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        for _ in 0..4 {
            let path = if random.below(4) == 0 { "mine.x.0" } else { random.one_of(&paths) };
            let word = random.value(2);
            match value_of(path, &word) {
                Ok(value) => {
                    let mut changed = config.clone();
                    changed.set(path, value.clone());
                    // What was set is there, and all else at the top is as it was, in its order.
                    assert_eq!(changed.get(path).is_none(), value.is_null(), "{path} {word}");
                    assert!(value.is_null() || changed.get(path) == Some(&value));
                    let top = path.split('.').next().unwrap();
                    let others = |config: &Config| -> Vec<String> {
                        config
                            .members()
                            .iter()
                            .filter(|(key, _)| *key != top)
                            .map(|(k, v)| format!("{k}{v}"))
                            .collect()
                    };
                    assert_eq!(others(&changed), others(&config));
                    assert!(
                        !mistyped(&changed).iter().any(|finding| finding.starts_with(&format!("{path} is")))
                    );
                    config = changed;
                }
                Err(why) => assert!(why.contains(path)),
            }
            if random.below(3) == 0 {
                let gone = random.one_of(&paths);
                config.remove(gone);
            }
        }
        assert_eq!(Config::parse(config.to_text().as_bytes()).unwrap(), config);
        assert!(crate::is_host_name(&host_name(&config).name));
        // No unit gets anything that it has no key for.
        for (unit, _) in units() {
            for (name, value) in &settings(&config, unit) {
                let mut own = keys().filter(|key| key.units.split(' ').any(|one| one == unit));
                assert!(
                    own.any(|key| key.path.ends_with(name.as_str()) && config.get(key.path) == Some(value))
                );
            }
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("minke-config-fuzz-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    for below in ["mnt/boot", "mnt/state"] {
        std::fs::create_dir_all(path.join(below)).unwrap();
    }
    path
}

/// Whatever lies in the boot partition, a boot finds an identity and a host name, and the next boot the same.
#[test]
fn any_file_gives_a_boot_its_identity() {
    let root = folder("boot");
    let mut random = Random(0xFEDC_BA98_7654_3210);
    for _ in 0..300 {
        for name in ["mnt/boot/config.json", "mnt/state/config.json.good", "mnt/state/uuid.provisional"] {
            let path = root.join(name);
            let _ = std::fs::remove_file(&path);
            let mut content = random.document().into_bytes();
            match random.below(6) {
                0 => content.truncate(random.below(content.len())),
                1 => content.extend([0; 64]),
                2 => content.fill(0),
                3 => continue,
                4 => {
                    let at = random.below(content.len());
                    content[at] = 0xFF;
                }
                _ => {}
            }
            std::fs::write(&path, &content).unwrap();
        }
        let store = Store::new(Paths::below(&root));
        let first = store.ensure_uuid().unwrap();
        assert!(!first.uuid().is_empty());
        let second = store.ensure_uuid().unwrap();
        assert_eq!(first.uuid(), second.uuid());
        let loaded = store.load();
        assert_eq!(loaded.config.string("uuid"), Some(first.uuid()));
        let _ = (loaded.message(), mistyped(&loaded.config), host_name(&loaded.config));
    }
    std::fs::remove_dir_all(root).unwrap();
}

/// Whatever copies a power cut has left: a reader gets a content that was written whole, the next reader the same,
/// the copies are gone, and nobody else's file is touched.
#[test]
fn any_leftovers_are_cleared_away() {
    let root = folder("leftovers");
    let boot = root.join("mnt/boot");
    let target = boot.join("config.json");
    let mut random = Random(0x5555_AAAA_1234_8765);
    let foreign =
        ["config.json.bak", ".config.json.x.md5sum", ".other.0a.d41d8cd98f00b204e9800998ecf8427e.md5sum"];
    for round in 0..600 {
        for entry in std::fs::read_dir(&boot).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for name in foreign {
            std::fs::write(boot.join(name), name).unwrap();
        }
        let mut whole: Vec<Vec<u8>> = Vec::new();
        let mut target_content = None;
        if random.below(4) > 0 {
            let content = random.document().into_bytes();
            std::fs::write(&target, &content).unwrap();
            target_content = Some(content);
        }
        for _ in 0..random.below(5) {
            let mut content = random.document().into_bytes();
            let stem = format!(".config.json.{:08x}.{}", random.below(1 << 32), md5::hex(&content));
            let torn = random.below(2) == 0;
            if torn {
                content.truncate(random.below(content.len()));
            }
            let extension = if random.below(3) == 0 { "tmp" } else { "md5sum" };
            std::fs::write(boot.join(format!("{stem}.{extension}")), &content).unwrap();
            if extension == "md5sum" && stem.ends_with(&md5::hex(&content)) {
                whole.push(content);
            }
        }
        let read = fatrw::read(&target).unwrap();
        match &read {
            Some(content) if whole.is_empty() => {
                assert_eq!(Some(content), target_content.as_ref(), "{round}");
            }
            Some(content) => assert!(whole.contains(content), "{round}"),
            None => assert!(whole.is_empty() && target_content.is_none(), "{round}"),
        }
        assert_eq!(fatrw::read(&target).unwrap(), read);
        let mut left: Vec<String> = std::fs::read_dir(&boot)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "config.json")
            .collect();
        left.sort();
        let mut expected = foreign.map(str::to_owned);
        expected.sort();
        assert_eq!(left, expected, "{round}");
    }
    std::fs::remove_dir_all(root).unwrap();
}
