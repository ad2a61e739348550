//! A release in the hands of balenaOS's own `hostapp-update`, by that script's steps and commands (spec os §15.2). The device
//! is a folder: its slots are loop devices, its boot partition is a tmpfs, and Debian's Docker is its container engine.

use minke_image::arch::Arch;
use minke_image::cache::{digests, file_digest};
use minke_image::oci::Archive;
use minke_image::tree::{Scratch, walk};
use minke_sys::inotify::{Inotify, Kind, Scope};
use minke_sys::mount::{Propagation, set_propagation};
use minke_sys::namespace::{Namespace, unshare};
use minke_tests::artefact::{self, Fault, archive};
use minke_tests::boot_loader::{End, Ext4, Fat, Loader, Volume};
use minke_tests::disk::Partition;
use minke_tests::dockerd::Dockerd;
use minke_tests::{errors, in_thread, release, run, text};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "8.1.0";

/// A layout of the boot partition, and what it has when the update comes.
struct Layout {
    arch: Arch,
    /// What runs the release's program here; nothing when this machine does.
    emulator: &'static [&'static str],
    /// Files of the old version, which the release has as well.
    old: &'static [&'static str],
    /// Files that stay as they are.
    kept: &'static [(&'static str, &'static str)],
    /// Files that start the device: where its firmware or its boot loader looks for them.
    starting: &'static [&'static str],
    /// The files of the selection: of slot A for good, where they are there, then of slot B on trial.
    records: &'static [(&'static str, &'static str, &'static str)],
    /// Files of the release that this layout has in other places.
    elsewhere: &'static [&'static str],
    /// The reference's kernel in its slot, where our boot loader starts it if the new system does not come up.
    kernel: Option<&'static str>,
}

const PC: Layout = Layout {
    arch: Arch::X86_64,
    emulator: &[],
    old: &["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grub.cfg", "device-type.json", "os-release", "balena-image"],
    // The reference's GRUB has its own files beside it.
    kept: &[
        ("config.json", "{\"deviceType\": \"generic-amd64\"}"),
        ("EFI/BOOT/grub_extraenv", "set extra_os_cmdline=quiet\n"),
        ("splash/balena-logo.png", "a logo"),
    ],
    starting: &["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grub.cfg"],
    records: &[(
        "EFI/BOOT/grubenv",
        "# GRUB Environment Block\nresin_root_part=2\nupgrade_available=0\nbootcount=0\n",
        "# GRUB Environment Block\nresin_root_part=3\nupgrade_available=1\nbootcount=0\n",
    )],
    elsewhere: &["grubenv"],
    kernel: Some("bzImage"),
};

const PI: Layout = Layout {
    arch: Arch::Armv6,
    emulator: &["qemu-arm-static", "-cpu", "arm1176"],
    old: &["kernel.img", "boot.scr", "device-type.json", "os-release", "balena-image"],
    kept: &[
        ("config.json", "{\"deviceType\": \"raspberry-pi\"}"),
        ("config.txt", "dtparam=i2c_arm=on\n"),
        ("extra_uEnv.txt", "extra_os_cmdline=quiet\n"),
        ("bootcode.bin", "the firmware"),
        ("start.elf", "the firmware"),
        ("overlays/vc4-kms-v3d.dtbo", "an overlay"),
    ],
    // The firmware reads the first one, which is U-Boot and reads the others.
    starting: &["kernel.img", "boot.scr", "uboot.env"],
    records: &[
        (
            "resinOS_uEnv.txt",
            "resin_root_part=2\nupgrade_available=0\n",
            "resin_root_part=3\nupgrade_available=1\n",
        ),
        // Of 13 bytes.
        ("bootcount.env", "", "bootcount=0\n\n"),
    ],
    elsewhere: &[],
    kernel: None,
};

#[test]
fn balenas_updater_installs_a_release_on_a_pc() {
    update(&PC);
}

#[test]
fn balenas_updater_installs_a_release_on_a_raspberry_pi() {
    update(&PI);
}

/// What is mounted is so for one thread and what it starts, and gone with them.
fn update(layout: &Layout) {
    let archive = archive(layout.arch, VERSION, Fault::None);
    let scratch = Scratch::new("reference").unwrap();
    in_thread(|| {
        unshare(&[Namespace::Mount]).unwrap_or_else(|error| panic!("{error} (as root?)"));
        // The engine, in a namespace below this one, sees what is mounted here.
        for propagation in [Propagation::Private, Propagation::Shared] {
            set_propagation(Path::new("/"), propagation, true).unwrap();
        }
        steps(&Device::new(layout, scratch.path()), &archive);
    });
}

/// The script.
fn steps(device: &Device<'_>, archive: &Path) {
    let app = Archive::read(archive).unwrap();
    let image = load(device, archive, &app.id);
    let container = create(device, &image, archive);
    make_current(device, &container);
    with_new_root(device, &container, "--before");
    forward(device, &image, &app);
    starts(device, archive);
    with_new_root(device, &container, "--after");
}

struct Device<'a> {
    layout: &'a Layout,
    folder: PathBuf,
    engine: Dockerd,
}

/// Slots as the reference makes them (spec os §1.1.5), the second one with the folders and links of §1.6. This machine's /dev
/// has no links of slots, so the device has one of its own.
const DEVICE: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p engine mnt/boot mnt/state mnt/data mnt/sysroot/active mnt/sysroot/inactive dev/disk/by-state
cp -a /dev/null dev
mount -t tmpfs tmpfs mnt/boot
mkdir -p hooks/50-test
for phase in before forward after commit; do
    printf '#!/bin/sh\necho %s $DURING_UPDATE >>%s/hooks.log\n' $phase "$PWD" >hooks/50-test/$phase
    chmod 755 hooks/50-test/$phase
done
for slot in A:active B:inactive; do
    label=resin-root${slot%:*} place=${slot#*:}
    truncate -s 256M $label.img
    mkdir -p $label
    mke2fs -q -t ext4 -i 8192 -E lazy_itable_init=0,lazy_journal_init=0 -d $label -L $label $label.img
    mount -o loop $label.img mnt/sysroot/$place
    loop=$(findmnt -no SOURCE mnt/sysroot/$place)
    cp -a $loop dev
    for link in $label $place; do ln -s ../../${loop#/dev/} dev/disk/by-state/$link; done
done
cd mnt/sysroot/inactive
mkdir -p dev etc balena hostapps mnt/state proc run sbin sys tmp
touch etc/machine-id
ln -sf ../current/boot/init sbin/init
ln -sf current/boot boot
"#;

impl<'a> Device<'a> {
    fn new(layout: &'a Layout, folder: &Path) -> Self {
        fs::create_dir_all(folder.join("resin-rootA/boot")).unwrap();
        if let Some(kernel) = layout.kernel {
            fs::write(folder.join("resin-rootA/boot").join(kernel), "the old kernel").unwrap();
        }
        shell(folder, DEVICE, &[]);
        let engine = Dockerd::new(&folder.join("engine"), &folder.join("mnt/sysroot/inactive/balena"));
        let mut device = Self { layout, folder: folder.to_owned(), engine };
        let old = layout.old.iter().map(|name| (*name, "of the old version"));
        for (name, content) in old.chain(layout.kept.iter().copied()) {
            device.boot_file(name, content);
        }
        for (name, before, _) in layout.records.iter().filter(|(_, before, _)| !before.is_empty()) {
            let length = if name.ends_with("grubenv") { 1024 } else { 0 };
            device.boot_file(name, &format!("{before:#<length$}"));
        }
        device.engine.start();
        device
    }

    fn mnt(&self, below: &str) -> PathBuf {
        self.folder.join("mnt").join(below)
    }

    fn sysroot(&self) -> PathBuf {
        self.mnt("sysroot/inactive")
    }

    fn boot_file(&self, name: &str, content: &str) {
        let path = self.mnt("boot").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A program of the release under this name.
    fn program(&self, path: &Path, name: &str) -> Command {
        let Some((emulator, options)) = self.layout.emulator.split_first() else { return Command::new(path) };
        let mut command = Command::new(emulator);
        command.args(options).args(["-0", name]).arg(path);
        command
    }
}

/// Runs a piece of shell in a folder, and returns what it prints.
fn shell(folder: &Path, script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("sh");
    text(&run(command.args(["-ec", script, "sh"]).args(arguments).current_dir(folder))).trim_end().to_owned()
}

/// Loads the archive with the data partition as room for it; the image's name as the script takes it from the answer.
fn load(device: &Device<'_>, archive: &Path, id: &str) -> String {
    let room = "mkdir -p data/resin-data/tmp sysroot/inactive/balena/tmp
        mount --bind data/resin-data/tmp sysroot/inactive/balena/tmp";
    shell(&device.mnt(""), room, &[]);
    let answer = device.engine.docker(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    shell(&device.mnt(""), "umount sysroot/inactive/balena/tmp", &[]);
    let image = answer.split_once(':').unwrap_or_else(|| panic!("{answer}")).1.trim().to_owned();
    assert!(image.starts_with("minke/hostapp-") && image.ends_with(":8.1.0"), "{answer}");
    let inspect = |format: &str| device.engine.docker(&["inspect", "-f", format, &image]).trim().to_owned();
    assert_eq!(inspect("{{.Id}}"), format!("sha256:{id}"), "another id than the artefact's");
    assert_eq!(inspect("{{.Architecture}}"), device.layout.arch.oci_platform().0);
    assert_eq!(inspect("{{index .Config.Labels \"io.balena.image.class\"}}"), "hostapp");
    image
}

/// Makes the container, whose volume the engine fills from the image's `/boot`.
fn create(device: &Device<'_>, image: &str, archive: &Path) -> String {
    let create = ["create", "--runtime=bare", "--volume=/boot", image, "/bin/sh"];
    let container = device.engine.docker(&create).trim().to_owned();
    let mut expected: BTreeMap<String, String> = artefact::contents(archive)
        .into_iter()
        .filter_map(|(name, digest)| Some((name.strip_prefix("boot/")?.to_owned(), digest)))
        .collect();
    for name in ["vmlinuz", "initramfs", "slot.env"] {
        assert!(expected.contains_key(name), "the release has no {name}");
    }
    expected.insert("init".into(), file_digest(&release(device.layout.arch.name())).unwrap());
    assert_eq!(digests(&volume(device, &container)).unwrap(), expected, "what the volume has");
    container
}

/// Where the container's volume is.
fn volume(device: &Device<'_>, container: &str) -> PathBuf {
    let format = "{{range .Mounts}}{{.Destination}} {{.Source}}{{end}}";
    let mounts = device.engine.docker(&["inspect", "-f", format, container]);
    mounts.trim().strip_prefix("/boot ").unwrap_or_else(|| panic!("no volume: {mounts}")).into()
}

/// The slot's new host app becomes its current one.
fn make_current(device: &Device<'_>, container: &str) {
    let script = r#"
        mkdir -p hostapps/.new
        ln -sr "$1" hostapps/.new/boot
        mv -T hostapps/.new "hostapps/$2"
        ln -srf "hostapps/$2" current.new
        mv -T current.new current
        sync -f ."#;
    let volume = volume(device, container);
    shell(&device.sysroot(), script, &[volume.to_str().unwrap(), container]);
}

/// The new root, shown by the release's stage 1 as long as its hooks run in the old system.
fn with_new_root(device: &Device<'_>, container: &str, phase: &str) {
    let sysroot = device.sysroot();
    let place = run(device.program(&sysroot.join("current/boot/init"), "init").arg("-sysroot").arg(&sysroot));
    // The script uses the answer as it is, for names and for `umount`.
    let place = text(&place);
    assert_eq!(place, format!("/run/minke/sysroot/{container}"));
    let root = Path::new(&place);
    assert_eq!(shell(root, "findmnt -no FSTYPE .", &[]), "squashfs");
    let os_release = fs::read_to_string(root.join("etc/os-release")).unwrap();
    assert!(os_release.contains(&format!("\nVERSION=\"{VERSION}\"\n")), "{os_release}");
    let runner = root.join("usr/bin/hostapp-update-hooks-v2");
    assert!(runner.is_file(), "the new root has no runner for hooks with phases");
    // The release has no hooks of these phases, so that the same runner gets some of the test's.
    for hooks in [root.join("etc/hostapp-update-hooks.d/"), device.folder.join("hooks")] {
        let mut command = device.program(&runner, "hostapp-update-hooks-v2");
        run(command.args([phase, "--dir"]).arg(hooks).env("DURING_UPDATE", "1"));
    }
    let log = device.folder.join("hooks.log");
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("{} 1\n", &phase[2..]), "the hooks that ran");
    fs::remove_file(log).unwrap();
    if phase == "--after" {
        same_files(&root.join("resin-boot"), device);
    }
    shell(Path::new("/"), "umount \"$1\"", &[&place]);
}

/// The boot partition has what the new root has, from which a return to it would copy.
fn same_files(pristine: &Path, device: &Device<'_>) {
    let boot = digests(&device.mnt("boot")).unwrap();
    for (name, digest) in digests(pristine).unwrap() {
        let own = !stays(device, &name) && !device.layout.elsewhere.contains(&name.as_str());
        if own && name != FINGERPRINT {
            assert_eq!(boot.get(&name), Some(&digest), "{name}");
        }
    }
}

const FINGERPRINT: &str = "balenaos.fingerprint";

/// Whether a boot file is its owner's, or the selection.
fn stays(device: &Device<'_>, name: &str) -> bool {
    let Layout { kept, records, .. } = device.layout;
    kept.iter().any(|(kept, _)| *kept == name) || records.iter().any(|(record, ..)| *record == name)
}

/// The hooks in a container of the new image: first without room on the boot partition, then with it.
fn forward(device: &Device<'_>, image: &str, app: &Archive) {
    let boot = device.mnt("boot");
    let before = digests(&boot).unwrap();
    let size = |size: &str| shell(&boot, "mount -o \"remount,size=$1\" .", &[size]);
    size("256k");
    let output = hooks(device, image).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("make room for /mnt/boot/"), "{}", errors(&output));
    assert_eq!(digests(&boot).unwrap(), before, "touched without room for all");
    size("64m");

    let watch = Watch::new(device);
    let said = errors(&run(&mut hooks(device, image)));
    watch.each_came_whole(device);
    assert!(said.contains("slot B is selected on trial"), "{said}");
    deployed(device, &before, &app.labels["io.minke.boot.files"]);
    for name in ["rollback-health-breadcrumb", "rollback-altboot-breadcrumb"] {
        assert!(device.mnt("state").join(name).exists(), "{name}: {said}");
    }
}

/// What happens to the boot files that are there: a power cut must find the old content or the new one (§15.6).
struct Watch {
    inotify: Inotify,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watch {
    fn new(device: &Device<'_>) -> Self {
        let inotify = Inotify::new().unwrap();
        let folders = device.layout.old.iter().map(|name| Path::new(name).parent().unwrap());
        let watch = |folder: &Path| inotify.add(&device.mnt("boot").join(folder), Scope::EveryWrite).unwrap();
        let folders = folders.map(|folder| (watch(folder), folder.to_owned())).collect();
        Self { inotify, folders }
    }

    /// Another file took each one's place, nobody wrote into it, and at no time it was missing. (Of an exchange, the name that
    /// goes is told last.)
    fn each_came_whole(&self, device: &Device<'_>) {
        let mut seen: BTreeMap<PathBuf, Vec<Kind>> = BTreeMap::new();
        loop {
            let changes = self.inotify.take();
            if changes.is_empty() {
                break;
            }
            for change in changes {
                let name = self.folders[&change.watch].join(OsStr::from_bytes(&change.name));
                seen.entry(name).or_default().push(change.kind);
            }
        }
        for name in device.layout.old {
            let seen = seen.get(Path::new(name)).map(Vec::as_slice).unwrap_or_default();
            assert!(
                matches!(seen, [Kind::Came] | [Kind::Came, Kind::Gone]),
                "{name} was not replaced at once: {seen:?}"
            );
        }
    }
}

/// The command that runs them.
fn hooks(device: &Device<'_>, image: &str) -> Command {
    let folder = device.folder.display();
    let (dev, mnt) = (format!("{folder}/dev:/dev"), format!("{folder}/mnt:/mnt"));
    let mut command = device.engine.command(&["run", "--privileged", "--rm"]);
    command.args(["-v", &dev, "-v", &mnt, "-v", "/sys:/sys", "-v", "/run:/run", "-e", "DURING_UPDATE=1"]);
    let Some((emulator, options)) = device.layout.emulator.split_first() else {
        command.args([image, "hostapp-update-hooks"]);
        return command;
    };
    let emulator = shell(Path::new("/"), "realpath $(command -v $1)", &[emulator]);
    command.args(["-v", &format!("{emulator}:/emulator:ro"), "--entrypoint", "/emulator", image]);
    command.args(options).args(["-0", "hostapp-update-hooks", "/usr/bin/hostapp-update-hooks"]);
    command
}

/// What the boot partition has then. `list`: what the release says it has, a line each with MD5 sum, bytes and path.
fn deployed(device: &Device<'_>, before: &BTreeMap<String, String>, list: &str) {
    let boot = device.mnt("boot");
    let mut names: BTreeSet<String> = before.keys().cloned().collect();
    names.insert(FINGERPRINT.into());
    for line in list.lines() {
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        let (sum, bytes, name) = (parts[0], parts[1], parts[2]);
        if device.layout.elsewhere.contains(&name) {
            continue;
        }
        names.insert(name.into());
        if stays(device, name) {
            continue;
        }
        let there = shell(&boot, "md5sum <\"$1\"; stat -c %s \"$1\"", &[name]);
        assert_eq!(there, format!("{sum}  -\n{bytes}"), "{name} is not the release's");
    }
    for name in device.layout.starting {
        assert!(list.lines().any(|line| line.ends_with(&format!(" {name}"))), "the release has no {name}");
    }
    for (name, content) in device.layout.kept {
        assert_eq!(fs::read_to_string(boot.join(name)).unwrap(), *content, "{name} is its owner's");
    }
    for (name, _, after) in device.layout.records {
        let selection = fs::read_to_string(boot.join(name)).unwrap();
        assert_eq!(selection.trim_end_matches('#'), *after, "{name}");
    }
    let files = walk(&boot).unwrap().into_iter().filter(|(_, path)| path.is_file()).map(|(name, _)| name);
    assert_eq!(files.collect::<BTreeSet<_>>(), names, "what is on the boot partition");
    shell(&boot, &format!("md5sum --check --quiet {FINGERPRINT}"), &[]);
}

/// What the boot loader does now, if this is all that the disk has: the slot is read as it lies there, without its journal.
fn starts(device: &Device<'_>, archive: &Path) {
    let boot = walk(&device.mnt("boot")).unwrap().into_iter().filter(|(_, path)| path.is_file());
    let boot = boot.map(|(name, path)| (name, fs::read(path).unwrap())).collect();
    let slots = ["resin-rootA", "resin-rootB"].map(|label| {
        let image = device.folder.join(format!("{label}.img"));
        let sectors = image.metadata().unwrap().len() / 512;
        Ext4::at(&image, &Partition { label, start: 0, sectors })
    });
    let mut loader = Loader { volume: Volume::of(Fat::with(&boot), slots) };
    let End::Start(start) = loader.pass() else { panic!("nothing starts") };
    let slot = loader.volume.slot(start.slot);
    assert_eq!(start.slot, 3, "{}", start.arguments);
    let own = format!(" {} ", start.arguments);
    let given = slot.read("boot/slot.env").unwrap();
    let given = String::from_utf8(given).unwrap();
    for word in [given.trim().trim_start_matches("slot_arguments="), "quiet"] {
        assert!(own.contains(&format!(" {word} ")), "'{word}' in{own}");
    }
    for (name, digest) in artefact::contents(archive) {
        if name.starts_with("boot/") {
            assert_eq!(slot.digest(&name).as_ref(), Some(&digest), "{name} as the boot loader reads it");
        }
    }
    if device.layout.kernel.is_some() {
        assert_eq!(loader.slots(3), [Some(3), Some(3), Some(2)], "starts of a system that never comes up");
    }
}
