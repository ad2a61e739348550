//! The program on real file systems: binds, resets, interruptions, partitions that are broken or missing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Device, isolated, run};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Not a test of its own: the program, when this executable is started as it.
#[test]
fn entry() {
    common::entry();
}

#[test]
fn first_boot_second_boot_and_what_persists() {
    isolated("first_boot_second_boot_and_what_persists", || {
        let device = Device::new("boots");
        let log = device.start(&[]);
        for line in ["state partition was reset", "data partition was reset", "new machine-id"] {
            assert!(log.contains(line), "{log}");
        }
        assert_eq!(device.read("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n");
        let mode =
            std::fs::metadata(device.path("mnt/state/root-overlay/home/root/.ssh")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700, "a new source has its target's mode");
        let id = device.read("etc/machine-id");
        assert_eq!(id.len(), 33);
        std::fs::write(device.path("etc/hostname"), "kitchen\n").unwrap();
        std::fs::write(device.path("home/root/.ssh/authorized_keys"), "key").unwrap();
        std::fs::write(device.path("var/lib/docker/layer"), "x").unwrap();
        std::fs::write(device.path("resin-data/state"), "x").unwrap();
        assert!(
            device.path("mnt/data/docker/layer").exists()
                && device.path("mnt/data/resin-data/state").exists()
        );

        let before = device.mounts();
        assert_eq!(device.start(&[]), "", "once more changes nothing and says nothing");
        assert_eq!(device.mounts(), before);
        let (output, _) = device.run("check");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("/etc/hostname ") && line.contains("mounted")),
            "{text}"
        );
        let (output, _) = device.run("status --json");
        let text = String::from_utf8(output.stdout).unwrap();
        let json = &text[text.find("[{").unwrap()..=text.rfind("}]").unwrap() + 1];
        let list: minke_wire::json::Value = minke_wire::json::parse_str(json).unwrap();
        assert!(
            list.as_array()
                .unwrap()
                .iter()
                .any(|entry| entry["target"] == "/mnt/state" && entry["type"] == "ext4")
        );

        device.stop();
        assert_eq!(device.read("etc/hostname"), "");
        device.edit("resin-state", |state| {
            let certificates = state.join("root-overlay/usr/share/ca-certificates/balena");
            std::fs::write(certificates.join("balenaRootCA.crt"), "ca").unwrap();
        });
        assert_eq!(device.start(&[]), "");
        assert_eq!(device.read("etc/hostname"), "kitchen\n");
        assert_eq!(device.read("home/root/.ssh/authorized_keys"), "key");
        assert_eq!(device.read("etc/machine-id"), id);
        assert!(device.path("var/lib/docker/layer").exists());
        assert_eq!(
            device.read("etc/ssl/certs/bundle.crt"),
            "stock",
            "the system's authorities stay in sight"
        );
        device.stop();
    });
}

#[test]
fn a_state_reset_keeps_what_is_outside_the_overlay_and_a_data_reset_purges_applications() {
    isolated("a_state_reset_keeps_what_is_outside_the_overlay_and_a_data_reset_purges_applications", || {
        let device = Device::new("reset");
        device.start(&[]);
        let id = device.read("etc/machine-id");
        std::fs::write(device.path("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=2\n")
            .unwrap();
        std::fs::write(device.path("etc/ssh/hostkeys/key"), "secret").unwrap();
        std::fs::write(device.path("mnt/state/config.json.good"), "{}").unwrap();
        std::fs::write(device.path("mnt/state/rollback-health-breadcrumb"), "").unwrap();
        for path in ["mnt/data/apps.json", "mnt/data/kept", "var/lib/docker/layer", "resin-data/database"] {
            std::fs::write(device.path(path), "x").unwrap();
        }
        for partition in ["state", "data"] {
            std::fs::remove_file(device.path(&format!("mnt/{partition}/remove_me_to_reset"))).unwrap();
        }
        // In use it is not pulled from under the running system.
        device.start(&["the state partition is in use", "the data partition is in use"]);
        assert_eq!(device.read("etc/ssh/hostkeys/key"), "secret");
        device.stop();

        let log = device.start(&[]);
        assert!(
            log.contains("state partition was reset") && log.contains("data partition was reset"),
            "{log}"
        );
        assert_eq!(device.read("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n");
        assert!(!device.path("etc/ssh/hostkeys/key").exists());
        assert_eq!(device.read("etc/machine-id"), id);
        for kept in ["config.json.good", "rollback-health-breadcrumb", "remove_me_to_reset"] {
            assert!(device.path("mnt/state").join(kept).exists(), "{kept}");
        }
        let mut left: Vec<_> = std::fs::read_dir(device.path("mnt/data"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["docker", "kept", "lost+found", "remove_me_to_reset", "resin-data"]);
        assert_eq!(std::fs::read_dir(device.path("var/lib/docker")).unwrap().count(), 0);
        device.stop();
    });
}

#[test]
fn a_reset_that_is_killed_anywhere_is_repeated() {
    isolated("a_reset_that_is_killed_anywhere_is_repeated", || {
        let device = Device::new("killed");
        device.start(&[]);
        device.stop();
        let (mut early, mut late) = (0, 0);
        for round in 0..24u64 {
            device.edit("resin-state", |state| {
                let folder = state.join("root-overlay/old");
                std::fs::create_dir_all(&folder).unwrap();
                (0..300).for_each(|n| std::fs::write(folder.join(n.to_string()), "x").unwrap());
                let _ = std::fs::remove_file(state.join("remove_me_to_reset"));
            });
            let mut child = device.spawn("start");
            // From before its first step to after its last.
            std::thread::sleep(Duration::from_millis(round));
            child.kill().unwrap();
            child.wait().unwrap();
            device.run("stop");
            let mut done = false;
            device.edit("resin-state", |state| {
                done = state.join("remove_me_to_reset").exists();
                if done {
                    assert!(!state.join("root-overlay/old").exists(), "the flag came before the end");
                    assert!(state.join("root-overlay/etc/balena-supervisor/supervisor.conf").exists());
                }
            });
            *if done { &mut late } else { &mut early } += 1;
            let log = device.start(&[]);
            assert_eq!(log.contains("was reset"), !done, "{log}");
            assert!(!device.path("mnt/state/root-overlay/old").exists());
            assert_eq!(device.read("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n");
            device.stop();
        }
        println!("killed before the flag {early}, after it {late}");
        assert!(early > 0);
    });
}

#[test]
fn each_half_done_state_of_a_reset_is_finished() {
    isolated("each_half_done_state_of_a_reset_is_finished", || {
        let device = Device::new("half");
        type Half = fn(&Path);
        let halves: [Half; 4] = [
            |state| std::fs::write(state.join("root-overlay/left"), "x").unwrap(),
            |state| std::fs::remove_dir_all(state.join("root-overlay")).unwrap(),
            |state| {
                std::fs::remove_dir_all(state.join("root-overlay")).unwrap();
                std::fs::create_dir_all(state.join("root-overlay/etc/balena-supervisor")).unwrap();
            },
            |state| {
                std::fs::write(state.join("root-overlay/etc/balena-supervisor/supervisor.conf"), "SUP")
                    .unwrap();
            },
        ];
        device.start(&[]);
        device.stop();
        for half in halves {
            device.edit("resin-state", |state| {
                half(state);
                std::fs::remove_file(state.join("remove_me_to_reset")).unwrap();
            });
            assert!(device.start(&[]).contains("state partition was reset"));
            assert_eq!(device.read("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n");
            assert!(!device.path("mnt/state/root-overlay/left").exists());
            device.stop();
        }
    });
}

#[test]
fn without_state_and_data_partitions_the_device_comes_up_volatile() {
    isolated("without_state_and_data_partitions_the_device_comes_up_volatile", || {
        let device = Device::new("missing");
        for label in ["resin-boot", "resin-state", "resin-data"] {
            std::fs::remove_file(device.link(label)).unwrap();
        }
        let log = device.start(&[
            "resin-boot: no partition",
            "resin-state: no partition",
            "resin-data: no partition",
            "resin-state is not there",
            "resin-data is not there",
        ]);
        assert!(log.contains("lost at the next boot") && !log.contains("was reset"), "{log}");
        std::fs::write(device.path("etc/hostname"), "x").unwrap();
        std::fs::write(device.path("var/lib/docker/x"), "x").unwrap();
        assert_eq!(device.read("etc/machine-id").len(), 33);
        assert_eq!(device.read("etc/balena-supervisor/supervisor.conf"), "SUPERVISOR_VERSION=1\n");
        let (output, _) = device.run("check");
        assert_eq!(output.status.code(), Some(1));
        device.stop();
    });
}

#[test]
fn a_corrupt_state_partition_does_not_stop_the_rest() {
    isolated("a_corrupt_state_partition_does_not_stop_the_rest", || {
        let device = Device::new("corrupt");
        // Block 0 and the superblock are gone.
        run(
            "dd",
            &[
                "if=/dev/urandom",
                &format!("of={}", device.link("resin-state").display()),
                "bs=4096",
                "count=64",
            ],
        );
        device
            .start(&["resin-state is not mounted: recognise the file system of", "resin-state is not there"]);
        std::fs::write(device.path("etc/hostname"), "x").unwrap();
        std::fs::write(device.path("var/lib/docker/persists"), "x").unwrap();
        device.stop();
        device.start(&["resin-state is not mounted", "resin-state is not there"]);
        assert!(device.path("var/lib/docker/persists").exists());
        device.stop();
    });
}

#[test]
fn a_read_only_state_partition_is_readable_and_takes_writes_in_memory() {
    isolated("a_read_only_state_partition_is_readable_and_takes_writes_in_memory", || {
        let device = Device::new("readonly");
        device.start(&[]);
        std::fs::write(device.path("etc/hostname"), "kitchen\n").unwrap();
        let id = device.read("etc/machine-id");
        device.stop();
        run(
            "blockdev",
            &["--setro", &std::fs::canonicalize(device.link("resin-state")).unwrap().display().to_string()],
        );
        device.start(&["resin-state is read-only"]);
        assert_eq!(device.read("etc/hostname"), "kitchen\n");
        assert_eq!(device.read("etc/machine-id"), id);
        std::fs::write(device.path("etc/hostname"), "cellar\n").unwrap();
        std::fs::write(device.path("home/root/.ssh/new"), "x").unwrap();
        let (output, _) = device.run("check");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().any(|line| line.contains("/mnt/state ") && line.contains("volatile")), "{text}");
        device.stop();
        device.start(&["resin-state is read-only"]);
        assert_eq!(device.read("etc/hostname"), "kitchen\n");
        device.stop();
    });
}

#[test]
fn a_full_state_partition_still_lets_every_place_be_written() {
    isolated("a_full_state_partition_still_lets_every_place_be_written", || {
        let device = Device::new("full");
        device.start(&[]);
        device.stop();
        device.edit("resin-state", |state| {
            std::fs::remove_dir_all(state.join("root-overlay/etc/openvpn")).unwrap();
            // Inodes run out before blocks do, and root has no reserve of them.
            let folder = state.join("hog");
            std::fs::create_dir(&folder).unwrap();
            for n in 0.. {
                if std::fs::write(folder.join(n.to_string()), "").is_err() {
                    break;
                }
            }
        });
        device.start(&["/etc/openvpn is kept in memory only"]);
        std::fs::write(device.path("etc/openvpn/openvpn.conf"), "x").unwrap();
        std::fs::write(device.path("etc/hostname"), "x").unwrap();
        device.stop();
    });
}

#[test]
fn a_target_that_the_image_lacks_is_one_error_and_a_filled_one_a_warning() {
    isolated("a_target_that_the_image_lacks_is_one_error_and_a_filled_one_a_warning", || {
        let device = Device::new("targets");
        std::fs::remove_dir(device.path("etc/openvpn")).unwrap();
        std::fs::write(device.path("var/lib/chrony/drift"), "x").unwrap();
        device
            .start(&["/etc/openvpn is not bound", "content of /var/lib/chrony in the root image is hidden"]);
        assert!(!device.path("var/lib/chrony/drift").exists(), "it is not copied");
        std::fs::write(device.path("etc/hostname"), "x").unwrap();
        device.stop();
    });
}

#[test]
fn stage_one_has_mounted_the_state_partition_before() {
    isolated("stage_one_has_mounted_the_state_partition_before", || {
        let device = Device::new("stage1");
        run("mount", &[device.link("resin-state").to_str().unwrap(), &device.text("mnt/state")]);
        std::fs::write(device.path("mnt/state/machine-id"), "").unwrap();
        run("mount", &["--bind", &device.text("mnt/state/machine-id"), &device.text("etc/machine-id")]);
        device.start(&[]);
        let id = device.read("etc/machine-id");
        assert_eq!(id.len(), 33, "the file that stage one bound is filled in place");
        assert_eq!(device.read("mnt/state/machine-id"), id);
        device.stop();
    });
}

#[test]
fn stage_one_has_bound_an_empty_machine_id_that_cannot_be_written() {
    isolated("stage_one_has_bound_an_empty_machine_id_that_cannot_be_written", || {
        let device = Device::new("stage1-ro");
        device.edit("resin-state", |state| std::fs::write(state.join("machine-id"), "").unwrap());
        let node = std::fs::canonicalize(device.link("resin-state")).unwrap().display().to_string();
        run("blockdev", &["--setro", &node]);
        run("mount", &["-o", "ro", &node, &device.text("mnt/state")]);
        run("mount", &["--bind", &device.text("mnt/state/machine-id"), &device.text("etc/machine-id")]);
        device.start(&["resin-state is read-only"]);
        assert_eq!(device.read("etc/machine-id").len(), 33);
        assert_eq!(device.start(&[]), "");
        device.stop();
    });
}

#[test]
fn state_and_data_keep_a_reserve() {
    isolated("state_and_data_keep_a_reserve", || {
        let device = Device::new("reserve");
        for label in ["resin-state", "resin-data"] {
            let node = device.link(label);
            run("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", "-L", label, node.to_str().unwrap()]);
        }
        device.start(&[]);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let ours = mounts.lines().filter(|line| line.contains(&device.text("mnt")) && line.contains("data"));
        assert!(
            ours.clone().count() > 0
                && ours.clone().all(|line| line.contains("resuid=4294967294,resgid=4294967294")),
            "{mounts}"
        );
        // State is filled to its last block by somebody who may: the next boot has what it needs.
        assert!(device.path("mnt/state/.reserve").exists());
        let full = device.path("mnt/state/full");
        let mut file = std::fs::File::create(&full).unwrap();
        let block = [7; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        drop(file);
        device.stop();
        device.edit("resin-state", |state| std::fs::remove_dir_all(state.join("root-overlay/var")).unwrap());
        device.edit("resin-state", |state| {
            let mut file = std::fs::File::create(state.join("full2")).unwrap();
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        });
        device.start(&["resin-state is full: its reserve is given up"]);
        assert!(!device.path("mnt/state/.reserve").exists());
        assert!(device.path("mnt/state/root-overlay/var/lib/chrony").is_dir());
        std::fs::remove_file(full).unwrap();
        std::fs::remove_file(device.path("mnt/state/full2")).unwrap();
        device.start(&[]);
        assert!(device.path("mnt/state/.reserve").exists());
        device.stop();
    });
}

/// What even the second pass of the check could not mend is read-only, with an alarm in the log and the status.
#[test]
fn a_file_system_with_faults_is_read_only() {
    isolated("a_file_system_with_faults_is_read_only", || {
        let device = Device::new("faults");
        std::fs::create_dir_all(device.path("run/minke/fsck")).unwrap();
        std::fs::write(device.path("run/minke/fsck/resin-data"), "broken").unwrap();
        std::fs::write(device.path("run/minke/fsck/resin-state"), "repaired").unwrap();
        device.start(&[
            "resin-data has faults that were not repaired",
            "resin-data is read-only: changes are kept in memory only",
        ]);
        let (output, _) = device.run("check");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("broken") && text.contains("repaired"), "{text}");
        device.stop();
    });
}

#[test]
fn single_partitions_are_mounted_by_name() {
    isolated("single_partitions_are_mounted_by_name", || {
        let device = Device::new("one");
        std::fs::create_dir_all(device.path("mnt/sysroot/inactive")).unwrap();
        let target = std::fs::read_link(device.link("resin-boot")).unwrap();
        std::os::unix::fs::symlink(target, device.link("inactive")).unwrap();
        for name in ["inactive", "state"] {
            for command in ["mount", "mount", "umount", "umount"] {
                let (output, log) = device.run(&format!("{command} {name}"));
                assert_eq!(output.status.code(), Some(0), "{log}");
                assert_eq!(device.mounts(), usize::from(command == "mount"));
            }
        }
        // The mount point of the other one does not exist in this root.
        assert_eq!(device.run("mount active").0.status.code(), Some(1));
        assert_eq!(device.run("mount nothing").0.status.code(), Some(2));
    });
}
