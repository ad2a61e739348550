//! The updater on loop devices: what each slot holds before and after, whatever happens.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Device, OLD, RUNNING, SLUG, isolated, run, text};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

const NEW: &str = "8.1.0";

#[test]
fn entry() {
    common::entry();
}

/// That slot B, as it is on its device, holds the host app `id` of version [`NEW`] and nothing else.
fn holds(device: &Device, id: &str) {
    // What boot loaders see, who replay no journal.
    let debugfs = |command: &str| run("debugfs", &["-c", "-R", command, text(&device.medium('B'))]);
    assert_eq!(debugfs("cat /boot/vmlinuz"), format!("kernel of {NEW}"));
    assert_eq!(debugfs("cat /counter"), "5");
    device.edit_b(|slot| {
        assert_eq!(fs::read_link(slot.join("current")).unwrap().to_str().unwrap(), format!("hostapps/{id}"));
        assert_eq!(fs::read_dir(slot.join("hostapps")).unwrap().count(), 1);
        let mut names: Vec<_> = fs::read_dir(slot).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let expected = [
            "boot",
            "counter",
            "current",
            "dev",
            "etc",
            "hostapps",
            "lost+found",
            "mnt",
            "proc",
            "run",
            "sbin",
            "sys",
            "tmp",
        ];
        assert_eq!(names, expected);
        assert!(fs::read(slot.join("current/boot/initramfs")).unwrap() == common::initramfs(NEW));
        assert!(slot.join("current/rootfs.squashfs").is_file());
    });
    // Mounted as it is, it was checked by the kernel; this looks at the rest.
    run("e2fsck", &["-fn", text(&device.medium('B'))]);
}

#[test]
fn status_tells_what_the_slots_hold() {
    isolated("status_tells_what_the_slots_hold", || {
        let device = Device::new("status");
        let report: Value = serde_json::from_str(&device.good("status --json")).unwrap();
        let expected = (&report["active"], &report["inactive"]);
        assert_eq!((&expected.0["slot"], &expected.1["slot"]), (&"A".into(), &"B".into()));
        assert_eq!((&expected.0["version"], &expected.0["id"]), (&RUNNING.into(), &OLD.into()));
        assert_eq!((&expected.1["version"], &expected.1["id"]), (&Value::Null, &Value::Null));
        assert_eq!(report["selection"]["chain"], "U-Boot");
        assert_eq!(
            (&report["selection"]["slot"], &report["selection"]["trial"]),
            (&"A".into(), &false.into())
        );
        let text = device.good("status");
        assert!(text.contains("active    A") && text.contains("selected  A, for good (U-Boot)"), "{text}");
        device.bad("rollback", "slot B holds no system");
    });
}

#[test]
fn a_release_fills_the_other_slot_whatever_stood_there() {
    isolated("a_release_fills_the_other_slot_whatever_stood_there", || {
        let device = Device::new("fill");
        device.edit_b(|slot| {
            // A reference system's, and an older one's of ours.
            for folder in ["balena/overlay2/x", "docker", "hostapps/old/boot", "etc", "boot"] {
                fs::create_dir_all(slot.join(folder)).unwrap();
            }
            fs::write(slot.join("balena/overlay2/x/file"), vec![1; 9 << 20]).unwrap();
            fs::write(slot.join("etc/machine-id"), "old").unwrap();
            symlink("hostapps/old", slot.join("current")).unwrap();
        });
        let id = device.release("os.tar", NEW, SLUG);
        device.good("-n -f /tmp/os.tar");
        assert_eq!(device.read("mnt/boot/resinOS_uEnv.txt"), "resin_root_part=2\nupgrade_available=0\n");
        holds(&device, &id);
        let report: Value = serde_json::from_str(&device.good("status --json")).unwrap();
        assert_eq!((&report["inactive"]["version"], &report["inactive"]["id"]), (&NEW.into(), &id.into()));
    });
}

#[test]
fn an_archive_comes_through_a_pipe() {
    isolated("an_archive_comes_through_a_pipe", || {
        let device = Device::new("pipe");
        let id = device.release("os.tar", NEW, SLUG);
        let mut program = device.program("-n --json -f -");
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let archive = fs::read(device.path("tmp/os.tar")).unwrap();
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines =
            text.lines().filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
        let percentages: Vec<u64> = lines.map(|line| line["percentage"].as_u64().unwrap()).collect();
        assert!(percentages.is_sorted() && percentages.len() >= 5, "{percentages:?}");
        assert_eq!(percentages.last(), Some(&100));
        holds(&device, &id);
    });
}

#[test]
fn a_slot_beyond_repair_is_made_anew() {
    isolated("a_slot_beyond_repair_is_made_anew", || {
        let device = Device::new("anew");
        let id = device.release("os.tar", NEW, SLUG);
        let damages: [&dyn Fn(); 3] = [
            // Its first mebibyte is gone.
            &|| {
                drop(run(
                    "dd",
                    &["if=/dev/urandom", &format!("of={}", device.node('B')), "bs=1M", "count=1"],
                ));
            },
            // Another file system.
            &|| drop(run("mkfs.vfat", &["-I", device.node('B')])),
            // The kernel saw errors in it.
            &|| drop(run("debugfs", &["-w", "-R", "ssv state 2", device.node('B')])),
        ];
        for damage in damages {
            damage();
            device.good("-n -f /tmp/os.tar");
            holds(&device, &id);
            let found = run("blkid", &["-p", "-o", "value", "-s", "LABEL", "-s", "UUID", device.node('B')]);
            assert!(found.contains("resin-rootB") && found.contains("ba1eadef"), "{found}");
            run("umount", &[text(&device.path("mnt/sysroot/inactive"))]);
        }
        // Without the template it cannot be.
        fs::remove_file(device.path("usr/share/minke/slot.ext4.gz")).unwrap();
        damages[0]();
        device.bad("-n -f /tmp/os.tar", "slot.ext4.gz");
    });
}

#[test]
fn what_does_not_belong_here_is_refused_before_anything_is_written() {
    isolated("what_does_not_belong_here_is_refused_before_anything_is_written", || {
        let device = Device::new("refuse");
        device.release("other.tar", NEW, "raspberry-pi");
        device.release("older.tar", "8.0.1", SLUG);
        let id = device.release("os.tar", NEW, SLUG);
        fs::write(device.path("tmp/none.tar"), "no archive").unwrap();
        let before = device.digests();
        device.bad("-f /tmp/other.tar", "the release is for the device type raspberry-pi");
        device.bad("-f /tmp/other.tar --allow-downgrade", "this device is a generic-test");
        device.bad("-f /tmp/older.tar", "the release 8.0.1 is older than 8.0.2");
        device.bad("-f /tmp/none.tar", "none.tar");
        device.bad("-f /tmp/missing.tar", "missing.tar");
        device.bad("-i UPPER/case", "UPPER/case");
        for wrong in ["-r", "-f a -i b", "frobnicate", "-f a status", "--nope"] {
            assert_eq!(device.run(wrong).0.status.code(), Some(2), "{wrong}");
        }
        device.good("-f /tmp/os.tar --dry-run");
        device.good("-f /tmp/older.tar --dry-run --allow-downgrade");
        // Signed releases only, once there is a key.
        fs::create_dir_all(device.path("mnt/boot/release-keys")).unwrap();
        let key = "untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
        device.boot_file("release-keys/fleet.pub", key);
        device.bad("-f /tmp/os.tar", "sign");
        device.bad("-f /tmp/os.tar --allow-unsigned", "keys are installed");
        fs::remove_dir_all(device.path("mnt/boot/release-keys")).unwrap();
        // A system on trial keeps its way back.
        let trial = "resin_root_part=2\nupgrade_available=1\n";
        device.boot_file("resinOS_uEnv.txt", trial);
        device.bad("-f /tmp/os.tar", "on trial");
        device.boot_file("resinOS_uEnv.txt", "resin_root_part=2\nupgrade_available=0\n");
        // Two names of one partition.
        fs::remove_file(device.path("disk/inactive")).unwrap();
        symlink(device.node('A'), device.path("disk/inactive")).unwrap();
        device.bad("-f /tmp/os.tar", "nothing is written");
        fs::remove_file(device.path("disk/inactive")).unwrap();
        symlink(device.node('B'), device.path("disk/inactive")).unwrap();
        // Somebody else is at it.
        let lock = fs::File::create(device.path("run/lock/hostapp-update.lock")).unwrap();
        lock.lock().unwrap();
        assert_eq!(device.run("-f /tmp/os.tar").0.status.code(), Some(9));
        drop(lock);
        // Mounting alone writes the time of it.
        let _ = run("umount", &[text(&device.path("mnt/sysroot/inactive"))]);
        assert_eq!(device.digests()[0], before[0]);
        device.edit_b(|slot| assert_eq!(fs::read_dir(slot).unwrap().count(), 1, "lost+found"));
        device.good("-n -f /tmp/os.tar");
        holds(&device, &id);
    });
}

#[test]
fn a_release_that_does_not_fit_is_refused() {
    isolated("a_release_that_does_not_fit_is_refused", || {
        let device = Device::new("fit");
        let id = device.release("os.tar", NEW, SLUG);
        device.sized("large.tar", NEW, 30 << 20);
        device.bad("-n -f /tmp/large.tar", "the release needs 31 MiB, and the slot can take");
        device.sized("fits.tar", NEW, 1 << 20);
        device.good("-n -f /tmp/fits.tar");
        device.good("-n -f /tmp/os.tar");
        holds(&device, &id);
    });
}

#[test]
fn an_update_that_waits_for_its_reboot_is_replaced() {
    isolated("an_update_that_waits_for_its_reboot_is_replaced", || {
        let device = Device::new("replaced");
        device.release("os.tar", NEW, SLUG);
        device.boot_file("resinOS_uEnv.txt", "resin_root_part=3\nupgrade_available=1\n");
        device.boot_file("bootcount.env", "bootcount=0\n");
        device.good("-n -f /tmp/os.tar");
        assert_eq!(device.read("mnt/boot/resinOS_uEnv.txt"), "resin_root_part=2\nupgrade_available=0\n");
    });
}

#[test]
fn a_damaged_archive_leaves_a_slot_that_nothing_starts_and_the_next_update_mends_it() {
    isolated("a_damaged_archive_leaves_a_slot_that_nothing_starts_and_the_next_update_mends_it", || {
        let device = Device::new("damaged");
        let id = device.release("os.tar", NEW, SLUG);
        device.good("-n -f /tmp/os.tar");
        let archive = fs::read(device.path("tmp/os.tar")).unwrap();
        let mut damaged = archive.clone();
        let place = archive.len() * 3 / 4;
        damaged[place] ^= 1;
        fs::write(device.path("tmp/damaged.tar"), &damaged).unwrap();
        fs::write(device.path("tmp/cut.tar"), &archive[..place]).unwrap();
        for name in ["damaged.tar", "cut.tar"] {
            device.bad(&format!("-f /tmp/{name}"), "");
            device.edit_b(|slot| {
                assert!(!slot.join("current").exists() && !slot.join("boot/vmlinuz").exists());
            });
        }
        device.good("-n -f /tmp/os.tar");
        holds(&device, &id);
    });
}

#[test]
fn an_update_that_is_ended_leaves_what_ran_and_the_next_one_is_whole() {
    isolated("an_update_that_is_ended_leaves_what_ran_and_the_next_one_is_whole", || {
        let device = Device::new("ended");
        let id = device.release("os.tar", NEW, SLUG);
        device.good("-n -f /tmp/os.tar");
        let archive = fs::read(device.path("tmp/os.tar")).unwrap();
        // Not INT: who starts the tests in the background has it ignored.
        for signal in ["TERM", "KILL"] {
            let mut child = device.program("-f -").stdin(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            // A pipe holds 64 KiB: most of this was taken.
            input.write_all(&archive[..archive.len() / 2]).unwrap();
            run("kill", &[&format!("-{signal}"), &child.id().to_string()]);
            assert!(!child.wait().unwrap().success());
            drop(input);
            assert_eq!(device.read("mnt/boot/resinOS_uEnv.txt"), "resin_root_part=2\nupgrade_available=0\n");
            let report: Value = serde_json::from_str(&device.good("status --json")).unwrap();
            assert_eq!(report["inactive"]["id"], Value::Null);
            assert!(report["inactive"]["interrupted"].as_u64().unwrap() > 0);
            device.edit_b(|slot| assert!(!slot.join("boot/vmlinuz").exists()));
        }
        device.good("-n -f /tmp/os.tar");
        holds(&device, &id);
    });
}

#[test]
fn the_cloud_hears_of_it_and_holds_nobody_up() {
    isolated("the_cloud_hears_of_it_and_holds_nobody_up", || {
        let device = Device::new("cloud");
        device.release("os.tar", NEW, SLUG);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = format!("http://{address}");
        let config = serde_json::json!({
            "apiEndpoint": endpoint, "uuid": "0123abcd", "deviceApiKey": "secret", "deviceId": 7,
        });
        device.boot_file("config.json", &config.to_string());
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut request = String::new();
                let mut buffer = [0; 4096];
                while !request.ends_with('}') {
                    let count = socket.read(&mut buffer).unwrap();
                    if count == 0 {
                        return heard;
                    }
                    request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                heard.push(request);
            }
        });
        device.good("-n -f /tmp/os.tar");
        // One who says nothing ends the server. It has heard of steps between, where they took long.
        drop(TcpStream::connect(address).unwrap());
        let heard = server.join().unwrap();
        assert!(heard.len() >= 2, "{heard:?}");
        assert!(heard[0].starts_with("PATCH /v6/device(uuid='0123abcd') HTTP/1.1\r\n"), "{heard:?}");
        assert!(heard[0].contains("Authorization: Bearer secret\r\n"), "{heard:?}");
        let body = |request: &str| -> Value {
            serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
        };
        let first = body(&heard[0]);
        assert_eq!(
            (&first["provisioning_progress"], &first["provisioning_state"]),
            (&25.into(), &"Preparing OS update".into())
        );
        assert_eq!(body(heard.last().unwrap())["provisioning_progress"], 100);
        // Nobody listens there any more.
        let (output, log) = device.run("-n -f /tmp/os.tar");
        assert!(output.status.success(), "{log}");
        assert_eq!(log.matches("the cloud does not hear of this").count(), 1, "{log}");
    });
}
