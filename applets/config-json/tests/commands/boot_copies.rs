//! Profiles and scripts that the owner has put on the boot partition.

use super::Device;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn what_the_boot_partition_has_is_copied_and_nothing_is_deleted() {
    let device = Device::new("copies");
    device.put("{}");
    let (boot, etc) = (device.0.0.join("mnt/boot"), device.0.0.join("etc/NetworkManager"));
    let mode = |name: &str| fs::metadata(etc.join(name)).unwrap().permissions().mode() & 0o7777;
    let read = |name: &str| fs::read_to_string(etc.join(name)).unwrap();
    for folder in ["system-connections/folder", "dispatcher.d"] {
        fs::create_dir_all(boot.join(folder)).unwrap();
    }
    fs::create_dir_all(etc.join("system-connections")).unwrap();
    fs::write(boot.join("system-connections/office"), "[connection]\nid=new\n").unwrap();
    fs::write(boot.join("system-connections/sample.ignore"), "#\n").unwrap();
    fs::write(boot.join("dispatcher.d/10script"), "#!/bin/sh\n").unwrap();
    fs::write(etc.join("system-connections/office"), "[connection]\nid=old\n").unwrap();
    fs::write(etc.join("system-connections/made-at-run-time"), "[connection]\n").unwrap();
    let (status, _, log) = device.run(&["apply", "balena-net-config"]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(log.matches("is copied from the boot partition").count(), 3, "{log}");
    assert_eq!(read("system-connections/office"), "[connection]\nid=new\n");
    assert_eq!(read("system-connections/made-at-run-time"), "[connection]\n");
    assert_eq!((mode("system-connections/office"), mode("system-connections/sample.ignore")), (0o600, 0o600));
    assert_eq!(mode("dispatcher.d/10script"), 0o755);
    assert!(!etc.join("system-connections/folder").exists());
    // What is the same is not written again; a mode that others may read with is put right.
    let inode = |name: &str| fs::metadata(etc.join(name)).unwrap().ino();
    let before = inode("system-connections/office");
    fs::set_permissions(etc.join("system-connections/sample.ignore"), fs::Permissions::from_mode(0o644))
        .unwrap();
    let (status, _, log) = device.run(&["apply", "balena-net-config"]);
    assert_eq!((status, log.matches("is copied").count()), (0, 1), "{log}");
    assert_eq!(
        (inode("system-connections/office"), mode("system-connections/sample.ignore")),
        (before, 0o600)
    );
    // One that goes from the boot partition stays; one that is too large harms no other.
    fs::remove_file(boot.join("system-connections/office")).unwrap();
    fs::write(boot.join("system-connections/a"), vec![b'#'; (1 << 20) + 1]).unwrap();
    fs::write(boot.join("system-connections/b"), "#\n").unwrap();
    let (status, _, log) = device.run(&["apply", "balena-net-config"]);
    assert!(status == 1 && log.contains("system-connections/a"), "{log}");
    assert_eq!(read("system-connections/office"), "[connection]\nid=new\n");
    assert_eq!(read("system-connections/b"), "#\n");
}
