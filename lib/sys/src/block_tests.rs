use super::*;
use superblock::Kind;

fn found(disk: &str, number: u32, label: &str, uuid: &str) -> Found {
    let name = format!("{disk}{number}");
    Found {
        device: Device {
            path: Path::new("/dev").join(&name),
            name,
            major: 8,
            minor: number,
            disk: Some(disk.into()),
            number: Some(number),
            part_name: None,
            part_uuid: Some(format!("{disk}-0{number}")),
            start: 0,
            size: 1 << 20,
            removable: false,
            read_only: false,
        },
        superblock: Some(Superblock {
            kind: Kind::Ext4,
            label: Some(label.into()),
            uuid: Some(uuid.into()),
            size: 1 << 20,
            block_size: 4096,
            directory: None,
            ext: None,
        }),
    }
}

fn device() -> Vec<Found> {
    vec![
        // A stick with an older installation is found first.
        found("sda", 2, "resin-rootA", "aaaa"),
        found("sda", 5, "resin-state", "bbbb"),
        found("vda", 2, "resin-rootA", "ba1eadef-02"),
        found("vda", 3, "resin-rootB", "ba1eadef-03"),
        found("vda", 5, "resin-state", "ba1eadef-05"),
        found("vda", 6, "other/label", "6666"),
    ]
}

fn target(links: &[Link], name: &str) -> Option<String> {
    links.iter().find(|link| link.name == name).map(|link| link.node.display().to_string())
}

#[test]
fn by_state_links_stay_on_the_root_disk() {
    let root = Identity::parse("UUID=BA1EADEF-03").unwrap();
    let links = links(&device(), Some(&root));
    assert_eq!(target(&links, "by-state/active").unwrap(), "/dev/vda3");
    assert_eq!(target(&links, "by-state/inactive").unwrap(), "/dev/vda2");
    assert_eq!(target(&links, "by-state/resin-rootA").unwrap(), "/dev/vda2");
    assert_eq!(target(&links, "by-state/resin-state").unwrap(), "/dev/vda5");
    assert_eq!(target(&links, "by-label/resin-state").unwrap(), "/dev/vda5", "the root disk wins");
    assert_eq!(target(&links, "by-uuid/bbbb").unwrap(), "/dev/sda5");
    assert_eq!(target(&links, "by-partuuid/vda-06").unwrap(), "/dev/vda6");
    assert_eq!(target(&links, "by-label/other\\x2flabel").unwrap(), "/dev/vda6");
    assert_eq!(target(&links, "by-state/other\\x2flabel"), None);
}

#[test]
fn without_a_root_there_is_no_state_link() {
    for root in [None, Identity::parse("UUID=none")] {
        let links = links(&device(), root.as_ref());
        assert!(links.iter().all(|link| !link.name.starts_with("by-state/")));
        assert_eq!(target(&links, "by-label/resin-state").unwrap(), "/dev/sda5");
    }
}

#[test]
fn vendor_partitions_are_linked_by_their_partition_name() {
    let mut devices = device();
    devices[5].device.part_name = Some("vendor-data".into());
    devices[4].device.part_name = Some("resin-state".into());
    let links = links(&devices, Identity::parse("UUID=ba1eadef-02").as_ref());
    assert_eq!(target(&links, "by-state/vendor-data").unwrap(), "/dev/vda6");
    assert_eq!(target(&links, "by-partlabel/resin-state").unwrap(), "/dev/vda5");
}

#[test]
fn root_is_found_by_each_spelling_and_within_a_disk() {
    let devices = device();
    let node = |value: &str, disk| {
        find(&devices, &Identity::parse(value)?, disk).map(|found| found.device.name.clone())
    };
    assert_eq!(node("LABEL=resin-rootA", None).unwrap(), "sda2");
    assert_eq!(node("LABEL=resin-rootA", Some("vda")).unwrap(), "vda2");
    assert_eq!(node("PARTUUID=VDA-03", None).unwrap(), "vda3");
    assert_eq!(node("/dev/vda3", None).unwrap(), "vda3");
    assert_eq!(node("UUID=zzzz", None), None);
    assert_eq!(node("nonsense", None), None);
}

/// A made-up sysfs and dev: a disk of two partitions, a loop device, a card reader without a card.
fn tree() -> Places {
    let base = std::env::temp_dir().join(format!("minke-block-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&base);
    let places = Places { sys: base.join("sys"), dev: base.join("dev") };
    let class = places.sys.join("class/block");
    std::fs::create_dir_all(&class).unwrap();
    std::fs::create_dir_all(&places.dev).unwrap();
    let add = |place: &str, files: &[(&str, &str)]| {
        let folder = places.sys.join("devices").join(place);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, content) in files {
            std::fs::write(folder.join(name), format!("{content}\n")).unwrap();
        }
        let name = Path::new(place).file_name().unwrap();
        std::os::unix::fs::symlink(&folder, class.join(name)).unwrap();
    };
    add(
        "mmc/mmcblk0",
        &[
            ("dev", "179:0"),
            ("size", "131072"),
            ("removable", "1"),
            ("ro", "0"),
            ("uevent", "DEVNAME=mmcblk0"),
        ],
    );
    add(
        "mmc/mmcblk0/mmcblk0p1",
        &[
            ("dev", "179:1"),
            ("size", "16384"),
            ("start", "8192"),
            ("partition", "1"),
            ("uevent", "DEVNAME=mmcblk0p1\nPARTN=1\nPARTNAME=resin-boot"),
        ],
    );
    add(
        "mmc/mmcblk0/mmcblk0p2",
        &[
            ("dev", "179:2"),
            ("size", "16384"),
            ("start", "24576"),
            ("partition", "2"),
            ("uevent", "DEVNAME=mmcblk0p2"),
        ],
    );
    add("virtual/loop0", &[("dev", "7:0"), ("size", "2048"), ("uevent", "DEVNAME=loop0")]);
    add("usb/sdb", &[("dev", "8:16"), ("size", "0"), ("uevent", "DEVNAME=sdb")]);
    places
}

#[test]
fn sysfs_is_read_and_links_are_made() {
    let places = tree();
    let run = |tool: &str, arguments: &[&str]| {
        let output = std::process::Command::new(tool).args(arguments).output().unwrap();
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let node = |name: &str| places.dev.join(name).display().to_string();
    // The nodes are image files here. The disk carries a table whose numbers fit the partitions.
    for (name, megabytes) in [("mmcblk0", 64), ("mmcblk0p1", 8), ("mmcblk0p2", 8)] {
        std::fs::File::create(places.dev.join(name)).unwrap().set_len(megabytes << 20).unwrap();
    }
    let script = "label: dos\\nlabel-id: 0x0badcafe\\nstart=8192,size=16384\\nsize=16384\\n";
    run("sh", &["-c", &format!("printf '{script}' | sfdisk -q {}", node("mmcblk0"))]);
    run("mkfs.vfat", &["-n", "resin-boot", "-i", "BDEF0001", &node("mmcblk0p1")]);
    run("mke2fs", &["-q", "-t", "ext4", "-L", "resin-rootA", &node("mmcblk0p2")]);

    let devices = refresh_links(&places, Identity::parse("PARTUUID=0badcafe-02").as_ref()).unwrap();
    let names: Vec<&str> = devices.iter().map(|found| found.device.name.as_str()).collect();
    assert_eq!(names, ["mmcblk0", "mmcblk0p1", "mmcblk0p2"]);
    let boot = &devices[1];
    assert_eq!((boot.device.number, boot.device.whole_disk()), (Some(1), "mmcblk0"));
    assert_eq!((boot.device.start, boot.device.size), (4 << 20, 8 << 20));
    assert_eq!(boot.device.part_uuid.as_deref(), Some("0badcafe-01"));
    assert!(boot.device.removable && !boot.device.read_only);
    assert_eq!((boot.label(), boot.uuid()), (Some("resin-boot"), Some("BDEF-0001")));

    let link = |name: &str| std::fs::read_link(places.dev.join("disk").join(name)).unwrap();
    assert_eq!(link("by-state/active"), Path::new("../../mmcblk0p2"));
    assert_eq!(link("by-label/resin-boot"), Path::new("../../mmcblk0p1"));
    assert_eq!(link("by-partlabel/resin-boot"), Path::new("../../mmcblk0p1"));
    assert_eq!(link("by-uuid/BDEF-0001"), Path::new("../../mmcblk0p1"));
    // Once more: nothing changes, nothing is left over.
    refresh_links(&places, Identity::parse("PARTUUID=0badcafe-02").as_ref()).unwrap();
    assert!(
        std::fs::read_dir(places.dev.join("disk"))
            .unwrap()
            .all(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("by-") })
    );
    std::fs::remove_dir_all(places.dev.parent().unwrap()).unwrap();
}

#[test]
fn a_label_means_the_disk_that_stays_in() {
    let mut stick = found("sda", 2, "resin-rootA", "u1");
    stick.device.removable = true;
    let all = [stick, found("sdb", 2, "resin-rootA", "u2"), found("sdc", 2, "resin-rootA", "u3")];
    let root = Identity::parse("LABEL=resin-rootA").unwrap();
    assert_eq!(find(&all, &root, None).and_then(Found::uuid), Some("u2"));
    assert_eq!(find(&all, &root, Some("sda")).and_then(Found::uuid), Some("u1"));
    assert_eq!(find(&all[..1], &root, None).and_then(Found::uuid), Some("u1"), "booted from the stick alone");
}

#[test]
fn odd_labels_become_safe_file_names() {
    assert_eq!(link_name("My Disk"), "My\\x20Disk");
    assert_eq!(link_name("../../etc"), "..\\x2f..\\x2fetc");
    assert_eq!(link_name(".."), "\\x2e\\x2e");
    assert_eq!(link_name("größe\n"), "größe\\x0a");
}
