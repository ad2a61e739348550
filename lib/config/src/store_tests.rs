use super::*;
use crate::{Identity, host_name};

/// A root folder with a boot and a state partition.
struct Device(PathBuf);

impl Device {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("minke-config-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["mnt/boot", "mnt/boottmp", "mnt/state"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        Self(root)
    }

    fn store(&self) -> Store {
        Store::new(Paths::below(&self.0))
    }

    fn put(&self, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.store().paths().config.clone(), content).unwrap();
        self
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.store().paths().config).unwrap()
    }

    /// What the boot unit does, with the host name that comes of it.
    fn boot(&self) -> (Identity, String) {
        let identity = self.store().ensure_uuid().unwrap();
        (identity, host_name(&self.store().load().config).name)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = r#"{"uuid":"0123456789abcdef0123456789abcdef","hostname":"kitchen","x":1}"#;

/// What a power cut, an editor or a user makes of a file; with what the log line must contain.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("truncated", GOOD.as_bytes()[..40].to_vec(), "line 1 column 41"),
        ("no-json", b"hostname: kitchen\n".to_vec(), "line 1 column 1"),
        ("array", b"[1]".to_vec(), "line 1 column 1"),
        ("nul-tail", [GOOD.as_bytes(), &[0; 64]].concat(), "line 1 column"),
        ("deep", "[".repeat(50_000).into_bytes(), "recursion limit exceeded at line 1 column"),
        ("huge", vec![b'x'; LIMIT + 1], "larger than"),
        ("monstrous", vec![b'x'; fatrw::LIMIT + 1], "cannot be read"),
        ("utf16", b"\xFF\xFE{\0}\0".to_vec(), "UTF-16"),
    ]
}

#[test]
fn a_broken_file_is_left_alone_and_the_last_good_copy_is_used() {
    for (name, content, place) in broken() {
        let device = Device::new(name);
        device.put(GOOD).boot();
        device.put(&content);
        let loaded = device.store().load();
        let message = loaded.message().unwrap();
        assert!(message.contains(place) && message.contains("last good copy"), "{name}: {message}");
        assert!(message.contains("/mnt/boot/config.json ") && !message.contains('\n'), "{message}");
        assert_eq!(loaded.config.string("hostname"), Some("kitchen"));
        let (identity, host) = device.boot();
        assert_eq!((identity.uuid(), host.as_str()), ("0123456789abcdef0123456789abcdef", "kitchen"));
        assert_eq!(std::fs::read(&device.store().paths().config).unwrap(), content, "{name}");
        let error = device.store().update(&mut |config| config.set("a", 1.into())).unwrap_err();
        assert!(error.to_string().contains("/mnt/boot/config.json"), "{error}");
    }
}

#[test]
fn broken_from_the_first_boot_on_there_is_one_uuid_all_the_same() {
    for (name, content, _) in broken() {
        let device = Device::new(&format!("first-{name}"));
        device.put(&content);
        let message = device.store().load().message().unwrap();
        assert!(message.contains("using the defaults"), "{message}");
        let (first, host) = device.boot();
        assert!(matches!(first, Identity::Provisional(..)), "{first:?}");
        assert_eq!(host, first.uuid()[..7]);
        assert_eq!(device.boot().0, first, "the next boot has the same");
        // The owner corrects the file: the uuid moves into it.
        device.put(r#"{"hostname":"cellar"}"#);
        let (second, host) = device.boot();
        assert_eq!((second, host.as_str()), (Identity::Adopted(first.uuid().into()), "cellar"));
        assert!(device.text().contains(first.uuid()));
        assert!(!device.store().paths().provisional.exists());
    }
}

#[test]
fn a_lost_file_comes_back_from_the_last_good_copy() {
    for (name, content) in [
        ("empty", Some(vec![])),
        ("blank", Some(b"\n \n".to_vec())),
        ("zeroed", Some(vec![0; 4096])),
        ("missing", None),
    ] {
        let device = Device::new(name);
        device.put(GOOD).boot();
        let path = device.store().paths().config.clone();
        match content {
            Some(content) => drop(device.put(content)),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let message = device.store().load().message().unwrap();
        assert!(message.contains("using the last good copy"), "{message}");
        let (identity, host) = device.boot();
        assert_eq!((identity.uuid(), host.as_str()), ("0123456789abcdef0123456789abcdef", "kitchen"));
        assert_eq!(Config::parse(device.text().as_bytes()).unwrap(), Config::parse(GOOD.as_bytes()).unwrap());
        assert!(device.store().load().message().is_none());
    }
}

#[test]
fn without_any_file_a_device_gets_a_uuid_once() {
    for (name, content) in [("none", None), ("zero", Some(&[0u8; 64][..])), ("object", Some(b"{}"))] {
        let device = Device::new(&format!("fresh-{name}"));
        if let Some(content) = content {
            device.put(content);
        }
        let (first, host) = device.boot();
        assert!(matches!(first, Identity::Generated(_)) && crate::identity::is_generated(first.uuid()));
        assert_eq!(host, first.uuid()[..7]);
        assert_eq!(device.boot().0, Identity::Known(first.uuid().into()));
    }
}

#[test]
fn wrong_types_keep_the_identity_and_give_the_default_name() {
    let device = Device::new("types");
    device.put(GOOD).boot();
    device.put(r#"{"uuid":5,"hostname":["kitchen"],"developmentMode":1,"x":2}"#);
    let (identity, host) = device.boot();
    assert_eq!(identity, Identity::Adopted("0123456789abcdef0123456789abcdef".into()));
    assert_eq!(host, "0123456");
    let read = device.store().load().config;
    assert!(!read.flag("developmentMode"));
    assert_eq!(read.number("x"), Some(2), "the rest of the file stays");
    assert_eq!(crate::mistyped(&read).len(), 2);
}

#[test]
fn a_uuid_that_the_owner_took_out_is_not_put_back() {
    let device = Device::new("clone");
    device.put(GOOD).boot();
    device.put(r#"{"hostname":"kitchen"}"#);
    let (identity, _) = device.boot();
    assert!(matches!(&identity, Identity::Generated(uuid) if uuid != "0123456789abcdef0123456789abcdef"));
}

#[test]
fn only_the_new_name_is_left_of_a_plain_rename() {
    let device = Device::new("rename");
    for name in ["config.json.new", ".config.json.tmp"] {
        let path = device.store().paths().config.with_file_name(name);
        std::fs::write(&path, GOOD).unwrap();
        let loaded = device.store().load();
        assert_eq!(loaded.origin, Origin::Copy(path.clone()));
        assert_eq!(loaded.config.string("hostname"), Some("kitchen"));
        std::fs::write(&path, &GOOD[..20]).unwrap();
        assert_eq!(device.store().load().origin, Origin::Default, "a torn copy does not count");
        // Beside a file that is there, it does not count either.
        std::fs::write(&path, GOOD).unwrap();
        device.put(r#"{"uuid":"f"}"#);
        assert_eq!(device.store().load().config.string("hostname"), None);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(&device.store().paths().config).unwrap();
    }
}

#[test]
fn the_good_copy_is_private_and_written_only_when_it_differs() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let device = Device::new("good");
    device.put(GOOD).boot();
    let good = device.store().paths().good.clone();
    let before = std::fs::metadata(&good).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o600);
    device.boot();
    device.store().update(&mut |config| config.set("x", 1.into())).unwrap();
    assert_eq!(std::fs::metadata(&good).unwrap().ino(), before.ino(), "not rewritten");
    device.store().update(&mut |config| config.set("x", 2.into())).unwrap();
    assert_eq!(device.store().last_good().unwrap().number("x"), Some(2));
}

#[test]
fn an_unchanged_update_writes_nothing_and_a_change_keeps_the_rest() {
    let device = Device::new("update");
    device.put(GOOD);
    device.store().update(&mut |config| config.set("x", 1.into())).unwrap();
    assert_eq!(device.text(), GOOD, "not even the layout");
    device.store().update(&mut |config| config.set("os.sshKeys", minke_wire::json::json!(["k"]))).unwrap();
    assert_eq!(device.store().load().config.strings("os.sshKeys"), ["k"]);
    let keys: Vec<String> = device.store().load().config.members().keys().cloned().collect();
    assert_eq!(keys, ["uuid", "hostname", "x", "os"]);
    assert_eq!(std::fs::read_dir(device.0.join("mnt/boot")).unwrap().count(), 1);
}

#[test]
fn two_writers_lose_no_key() {
    let device = Device::new("race");
    device.put("{}");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = device.store();
            scope.spawn(move || {
                for round in 0..10 {
                    store.update(&mut |config| config.set(&format!("k{writer}-{round}"), 1.into())).unwrap();
                }
            });
        }
    });
    assert_eq!(device.store().load().config.members().len(), 40);
}

#[test]
fn the_installer_has_a_working_copy() {
    let device = Device::new("flasher");
    std::fs::write(device.0.join("mnt/boot/balena-image-flasher"), "").unwrap();
    assert_eq!(device.store().paths().config, device.0.join("mnt/boottmp/config.json"));
}

#[test]
fn without_a_writable_boot_partition_the_uuid_is_kept_on_the_state_partition() {
    let device = Device::new("noboot");
    std::fs::remove_dir_all(device.0.join("mnt/boot")).unwrap();
    let (first, _) = device.boot();
    assert!(matches!(&first, Identity::Provisional(_, reason) if reason.contains("mnt/boot")), "{first:?}");
    assert_eq!(device.boot().0.uuid(), first.uuid());
}
