//! The program on files below a temporary folder, with keys of ssh-keygen's. Needs root for the owners.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use minke_tests::program::{self, Root};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    program::entry(minke_ssh_keys::APPLET.programs);
}

/// A device's root folder.
struct Device(Root);

impl std::ops::Deref for Device {
    type Target = Root;
    fn deref(&self) -> &Root {
        &self.0
    }
}

impl Device {
    fn new(name: &str) -> Self {
        Self(Root::new("ssh-keys", name, &["home/root/.ssh"]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join("home/root/.ssh").join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        self.0.read(self.path(name))
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        self.0.run("ssh-keys", words)
    }
}

fn run(words: &[&str]) -> (i32, String, String) {
    program::outcome(program::command("ssh-keys", words).output().unwrap())
}

/// A public key that ssh-keygen has made.
fn generated(device: &Device, kind: &str, bits: &str) -> String {
    let file = device.0.0.join(format!("key-{kind}-{bits}"));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", "", "-C", "jane@home", "-f"]).arg(&file);
    if !bits.is_empty() {
        command.args(["-b", bits]);
    }
    assert!(command.status().unwrap().success());
    std::fs::read_to_string(file.with_extension("pub")).unwrap()
}

fn keys(lines: &[&str]) -> String {
    minke_config::Value::from_iter(lines.iter().map(|line| minke_config::Value::from(*line))).to_text()
}

#[test]
fn keys_of_ssh_keygen_get_in_and_have_its_fingerprints() {
    let device = Device::new("peer");
    let mut lines = Vec::new();
    for (kind, bits) in
        [("ed25519", ""), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")]
    {
        lines.push(generated(&device, kind, bits));
    }
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    device.config(format!(r#"{{"os":{{"sshKeys":{}}}}}"#, keys(&texts)));
    let (status, _, log) = device.run(&["apply"]);
    assert!(status == 0 && log.contains("5 keys may log in"), "{log}");
    let local = device.read("authorized_keys_local").unwrap();
    assert_eq!(local, lines.concat());
    assert_eq!(
        device.read("authorized_keys").unwrap(),
        format!("# From /home/root/.ssh/authorized_keys_local\n{local}")
    );
    let theirs =
        Command::new("ssh-keygen").args(["-l", "-f"]).arg(device.path("authorized_keys")).output().unwrap();
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let (_, ours, _) = device.run(&["list"]);
    assert_eq!((theirs.lines().count(), ours.lines().count()), (5, 5));
    for (theirs, ours) in theirs.lines().zip(ours.lines()) {
        let theirs: Vec<&str> = theirs.split(' ').collect();
        let ours: Vec<&str> = ours.split(' ').collect();
        assert_eq!((theirs[1], theirs[2]), (ours[1], ours[2]));
    }
    assert_eq!(device.run(&["check", device.path("authorized_keys").to_str().unwrap()]).0, 0);
    // Again: nothing to do, nothing written.
    let inode = || {
        ["authorized_keys", "authorized_keys_local"].map(|name| device.path(name).metadata().unwrap().ino())
    };
    let before = inode();
    assert_eq!(device.run(&["apply"]), (0, String::new(), String::new()));
    assert_eq!(inode(), before);
}

#[test]
fn a_bad_key_is_named_by_its_place_and_the_good_ones_stay() {
    let device = Device::new("bad");
    let good = generated(&device, "ed25519", "");
    let good = good.trim();
    let list = format!(
        r#"["{good}", 5, "", "ssh-rsa AAAA", "{good}\n{good}", "no-pty,from=\"10.0.0.0/8\" {good}", "nonsense {good}", "{good}\r\n"]"#
    );
    device.config(format!(r#"{{"os":{{"sshKeys":{list}}}}}"#));
    let (status, _, log) = device.run(&["apply"]);
    assert_eq!(status, 0, "{log}");
    for index in [1, 2, 3, 4, 6] {
        assert!(log.contains(&format!("os.sshKeys.{index} is skipped: the key ")), "{index}: {log}");
    }
    assert_eq!(log.matches("is skipped").count(), 5);
    let local = device.read("authorized_keys_local").unwrap();
    assert_eq!(local, format!("{good}\nno-pty,from=\"10.0.0.0/8\" {good}\n{good}\n"));
    // No list at all changes nothing.
    for wrong in [r#""ssh-ed25519 AAAA""#, "{}", "true"] {
        device.config(format!(r#"{{"os":{{"sshKeys":{wrong}}}}}"#));
        let (status, _, log) = device.run(&["apply"]);
        assert!(status == 1 && log.contains("should be an array"), "{log}");
        assert_eq!(device.read("authorized_keys_local").unwrap(), local);
    }
    let (status, text, _) = device.run(&["check", device.path("authorized_keys").to_str().unwrap()]);
    assert_eq!((status, text.as_str()), (0, ""));
    std::fs::write(device.path("other"), format!("# mine\n\n{good}\nssh-rsa AAAA\n")).unwrap();
    let (status, text, _) = device.run(&["check", device.path("other").to_str().unwrap()]);
    assert!(
        status == 1 && text.ends_with("other:4: the key is not whole: its fields are cut off\n"),
        "{text}"
    );
}

#[test]
fn an_empty_list_removes_and_the_cloud_s_keys_stay() {
    let device = Device::new("empty");
    let (own, cloud) = (generated(&device, "ed25519", ""), generated(&device, "ecdsa", "256"));
    std::fs::write(device.path("authorized_keys_remote"), cloud.trim()).unwrap();
    device.config(format!(r#"{{"os":{{"sshKeys":{}}}}}"#, keys(&[&own])));
    assert_eq!(device.run(&["apply"]).0, 0);
    let both = format!(
        "# From /home/root/.ssh/authorized_keys_remote\n{cloud}# From /home/root/.ssh/authorized_keys_local\n{own}"
    );
    assert_eq!(device.read("authorized_keys").unwrap(), both);
    for empty in [r#"{"os":{"sshKeys":[]}}"#, "{}"] {
        device.config(empty);
        assert_eq!(device.run(&["apply"]).0, 0);
        assert_eq!(device.read("authorized_keys_local"), None);
        assert!(!device.read("authorized_keys").unwrap().contains(own.trim()));
    }
    std::fs::remove_file(device.path("authorized_keys_remote")).unwrap();
    device.run(&["apply"]);
    assert_eq!(device.read("authorized_keys"), None);
    assert_eq!(std::fs::read_dir(device.path("")).unwrap().count(), 0);
}

#[test]
fn modes_and_owners_are_put_right() {
    let device = Device::new("modes");
    let key = generated(&device, "ed25519", "");
    device.config(format!(r#"{{"os":{{"sshKeys":{}}}}}"#, keys(&[&key])));
    device.run(&["apply"]);
    for name in ["", "authorized_keys", "authorized_keys_local"] {
        std::fs::set_permissions(device.path(name), PermissionsExt::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(device.path(name), Some(1000), Some(1000)).unwrap();
    }
    let (status, _, log) = device.run(&["apply"]);
    assert!(status == 0 && log.lines().count() == 3, "{log}");
    for (name, mode) in [("", 0o700), ("authorized_keys", 0o600), ("authorized_keys_local", 0o600)] {
        let status = device.path(name).metadata().unwrap();
        assert_eq!((status.mode() & 0o7777, status.uid(), status.gid()), (mode, 0, 0), "{name}");
    }
    // A link somebody has put there is replaced and not followed.
    let elsewhere = device.0.0.join("elsewhere");
    std::fs::write(&elsewhere, &key).unwrap();
    std::fs::remove_file(device.path("authorized_keys_local")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, device.path("authorized_keys_local")).unwrap();
    assert_eq!(device.run(&["apply"]).0, 0);
    assert!(device.path("authorized_keys_local").symlink_metadata().unwrap().is_file());
}

#[test]
fn the_development_mode_s_flag_follows_the_keys() {
    let device = Device::new("flag");
    let key = generated(&device, "ed25519", "");
    let flag = || std::fs::read_to_string(device.0.0.join("var/volatile/development-features"));
    device.config(format!(r#"{{"developmentMode":true,"os":{{"sshKeys":{}}}}}"#, keys(&[&key])));
    device.run(&["apply"]);
    assert!(flag().unwrap().contains("PasswordAuthentication=no"));
    device.config(r#"{"developmentMode":true}"#);
    device.run(&["apply"]);
    assert!(!flag().unwrap().contains("PasswordAuthentication=no"));
    device.config("{}");
    device.run(&["apply"]);
    assert!(flag().is_err());
}

#[test]
fn a_broken_configuration_locks_nobody_out() {
    let device = Device::new("broken");
    let key = generated(&device, "ed25519", "");
    let text = format!(r#"{{"os":{{"sshKeys":{}}}}}"#, keys(&[&key]));
    device.config(&text);
    device.run(&["apply"]);
    device.config("{\"os\":");
    // Without a good copy nothing is known; with one, it counts.
    let (status, _, log) = device.run(&["apply"]);
    assert!(status == 1 && log.contains("stay as they are"), "{log}");
    assert_eq!(device.read("authorized_keys_local").unwrap(), key);
    std::fs::write(device.0.0.join("mnt/state/config.json.good"), &text).unwrap();
    assert_eq!(device.run(&["apply"]), (0, String::new(), String::new()));
    assert_eq!(device.read("authorized_keys_local").unwrap(), key);
}

#[test]
fn a_thousand_keys() {
    let device = Device::new("thousand");
    let key = generated(&device, "rsa", "4096");
    let lines: Vec<String> = (0..1000).map(|number| format!("{} {number}", key.trim())).collect();
    let mut texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    texts.extend(["bad"; 1000]);
    device.config(format!(r#"{{"os":{{"sshKeys":{}}}}}"#, keys(&texts)));
    let (status, _, log) = device.run(&["apply"]);
    assert!(
        status == 0 && log.contains("1000 keys may log in") && log.contains("980 more are skipped"),
        "{log}"
    );
    assert!(log.lines().count() < 30);
    assert_eq!(device.run(&["list"]).1.lines().count(), 1000);
}

#[test]
fn command_lines() {
    for words in [&["apply", "x"][..], &["check"], &["nonsense"], &[]] {
        assert_eq!(run(words).0, 2, "{words:?}");
    }
    assert_eq!(run(&["authorized", "root"]), (0, String::new(), String::new()));
    assert_eq!(run(&["check", "/nowhere/file"]).0, 1);
}

/// A cloud on loopback that gives each request the next of these answers, and tells what it was asked.
fn cloud(answers: Vec<String>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1);
                request.extend(byte);
            }
            asked.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    };
    (port, std::thread::spawn(serve))
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn the_cloud_s_keys_are_asked_for_kept_and_forgotten() {
    let device = Device::new("cloud");
    std::fs::create_dir_all(device.0.0.join("etc")).unwrap();
    std::fs::write(device.0.0.join("etc/passwd"), "sshd-authcommands:x:105:106:x:/:/bin/false\n").unwrap();
    let (one, two) = (generated(&device, "ed25519", ""), generated(&device, "ecdsa", "256"));
    let (port, server) = cloud(vec![
        answer("200 OK", &format!("{one}no key\n{two}")),
        answer("503 Service Unavailable", "later"),
        answer("200 OK", "<html>nonsense</html>"),
        answer("503 Service Unavailable", "later"),
        answer("200 OK", &one),
        answer("404 Not Found", ""),
    ]);
    device.config(format!(r#"{{"apiEndpoint":"http://127.0.0.1:{port}/","deviceApiKey":"secret"}}"#));
    assert_eq!(device.run(&["apply"]).0, 0);
    let cache = device.0.0.join("var/volatile/cache/ssh-keys");
    let owner = cache.metadata().unwrap();
    assert_eq!((owner.uid(), owner.gid(), owner.mode() & 0o777), (105, 106, 0o700));
    let ask = || device.run(&["authorized", "jane@x"]);
    let good = format!("{one}{two}");
    assert_eq!(ask(), (0, good.clone(), String::new()));
    let (status, text, log) = ask();
    assert!((status, &text) == (0, &good) && log.contains("status 503: later; using the keys"), "{log}");
    // It has spoken: no keys. They are not in the cache any more either.
    assert_eq!((ask().0, ask().0), (1, 1));
    assert_eq!(ask().1, one);
    assert_eq!(ask().0, 1);
    let asked = server.join().unwrap();
    assert!(asked[0].starts_with("GET /auth/v1/public-keys/jane%40x HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].to_lowercase().contains("authorization: bearer secret\r\n"));
    // Nobody listens any more. An answer of yesterday counts, an older one and one of tomorrow do not.
    for (hours, counts) in [(23, true), (25, false), (-1, false)] {
        std::fs::write(cache.join("jane@x"), &one).unwrap();
        let time = format!("@{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 - hours * 3600);
        assert!(
            Command::new("touch").arg("-d").arg(time).arg(cache.join("jane@x")).status().unwrap().success()
        );
        assert_eq!(ask().1, if counts { one.as_str() } else { "" }, "{hours}");
    }
    for name in ["../jane", "", "jane/x", ".x", "a b", "x\ny"] {
        let (status, text, log) = device.run(&["authorized", name]);
        assert!(status == 1 && text.is_empty() && log.contains("no user's name"), "{log}");
    }
    device.config("{}");
    assert!(device.run(&["authorized", "jane"]).2.contains("belongs to no cloud"));
}

/// The SSH server asks as a user of its own, who may not read the last good copy.
#[test]
fn with_a_broken_file_the_server_s_user_asks_with_what_there_was() {
    let device = Device::new("user");
    let root = &device.0.0;
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/passwd"), "sshd-authcommands:x:105:105:x:/:/bin/false\n").unwrap();
    let key = generated(&device, "ed25519", "");
    let (port, server) = cloud(vec![answer("200 OK", &key), answer("200 OK", &key)]);
    let text = format!(r#"{{"apiEndpoint":"http://127.0.0.1:{port}/","deviceApiKey":"secret","other":1}}"#);
    device.config(&text);
    let good = root.join("mnt/state/config.json.good");
    std::fs::write(&good, &text).unwrap();
    std::fs::set_permissions(&good, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(device.run(&["apply"]).0, 0);
    let access = root.join("var/volatile/cache/ssh-keys/.access");
    let status = access.metadata().unwrap();
    assert_eq!((status.uid(), status.mode() & 0o777), (105, 0o600));
    // The test's executable is not everybody's to read where it lies. One that this process writes could not be executed
    // while another test's child has the open file.
    let own = root.join("program");
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&own).status();
    assert!(copied.unwrap().success());
    let ask = || {
        let words = ["--root", root.to_str().unwrap(), "authorized", "jane"];
        let plain = program::command("ssh-keys", &words);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=105", "--regid=105", "--clear-groups"]).arg(&own).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        program::outcome(command.env_remove("CONFIG_PATH").output().unwrap())
    };
    assert_eq!(ask(), (0, key.clone(), String::new()));
    device.config("{\"apiEndpoint\":");
    let (status, text, log) = ask();
    assert_eq!((status, text), (0, key), "{log}");
    assert!(log.lines().count() == 1 && log.contains("asking with what it last had"), "{log}");
    assert!(server.join().unwrap().iter().all(|asked| asked.contains("Bearer secret")));
    std::fs::remove_file(access).unwrap();
    assert!(ask().2.contains("belongs to no cloud"));
}
