//! RAUC's side: bundles of the same content, and the chroot in which it runs.

use minke_image::cache::Cache;
use minke_image::fetch;
use minke_image::kernel::Parts;
use minke_image::tree::{Root, Scratch, walk};
use minke_tests::artefact::{id, unpack};
use minke_tests::guest::FASTEST;
use minke_tests::run;
use std::path::Path;
use std::process::Command;

/// RAUC, what it runs, and the libraries of all of them.
const PACKAGES: &str = "casync dbus-daemon e2fsprogs gzip libacl1 libapparmor1 libaudit1 libblkid1 libbrotli1 libc6 \
    libcap-ng0 libcap2 libcom-err2 libcurl3-gnutls libdbus-1-3 dbus-system-bus-common libexpat1 libext2fs2 libfdisk1 libffi8 libfuse2 \
    libgcrypt20 libglib2.0-0 libgmp10 libgnutls30 libgpg-error0 libgssapi-krb5-2 libhogweed6 libidn2-0 \
    libjson-glib-1.0-0 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 libldap-2.5-0 liblz4-1 liblzma5 libmount1 \
    libnettle8 libnghttp2-14 libp11-kit0 libpcre2-8-0 libpsl5 librtmp1 libsasl2-2 libselinux1 libssh2-1 libssl3 \
    libsystemd0 libtasn1-6 libudev1 libunistring2 libuuid1 libzstd1 mount rauc rauc-service tar zlib1g";

const SYSTEM: &str = "[system]
compatible=bench
bootloader=custom
mountprefix=/run/rauc
data-directory=/data
max-bundle-download-size=134217728

[handlers]
bootloader-custom-backend=/usr/lib/boot-backend

[keyring]
path=/etc/rauc/ca.pem

[slot.rootfs.0]
device=/dev/vda2
type=ext4
bootname=A
resize=true

[slot.rootfs.1]
device=/dev/vda3
type=ext4
bootname=B
resize=true
";

/// Keeps the selection in a file, as `resinOS_uEnv.txt` does.
const BACKEND: &str = "#!/bin/sh
case $1 in
  get-primary) cat /data/primary 2>/dev/null || echo A ;;
  set-primary) echo \"$2\" > /data/primary; sync ;;
  get-state) echo good ;;
esac
";

/// Makes the bundles and the chroot's archive in `files`; each bundle's description and name.
pub fn make(cache: &Cache, new: &Path, files: &Path) -> [(&'static str, &'static str); 3] {
    let scratch = Scratch::new("bundles").unwrap();
    let slot = Root::new(&scratch.join("slot")).unwrap();
    for name in ["dev", "proc", "sys", "run", "tmp", "sbin", "mnt/state", "hostapps"] {
        slot.folder(name).unwrap();
    }
    slot.file("etc/machine-id", "").unwrap();
    slot.link(&format!("hostapps/{}", id(new)), "current").unwrap();
    slot.link("current/boot", "boot").unwrap();
    unpack(new, &slot.at(&format!("hostapps/{}", id(new))));
    let script = r#"
        cd "$1"; slot=$2
        openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -days 3650 -subj /CN=bench 2>/dev/null
        for kind in tar ext4; do mkdir $kind; done
        tar --owner=0 --group=0 -czf tar/rootfs.tar.gz -C "$slot" .
        truncate -s 48M ext4/rootfs.ext4
        mkfs.ext4 -q -O ^metadata_csum,^64bit -d "$slot" ext4/rootfs.ext4
        resize2fs -M ext4/rootfs.ext4 2>/dev/null
        for image in tar/rootfs.tar.gz ext4/rootfs.ext4; do
          folder=${image%/*}
          printf '[update]\ncompatible=bench\nversion=1\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=%s\n' "${image#*/}" > $folder/manifest.raucm
          rauc bundle --cert=ca.pem --key=key.pem $folder $folder.raucb
        done
        rauc convert --cert=ca.pem --key=key.pem --keyring=ca.pem ext4.raucb casync.raucb
        cp -r tar.raucb ext4.raucb casync.raucb casync.castr "$3"
    "#;
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).arg(scratch.path()).arg(slot.top()).arg(files);
    run(&mut command);
    chroot(cache, &scratch, files);
    [
        ("RAUC, archive", "tar.raucb"),
        ("RAUC, file system", "ext4.raucb"),
        ("RAUC, casync's chunks", "casync.raucb"),
    ]
}

fn chroot(cache: &Cache, scratch: &Scratch, files: &Path) {
    let root = Root::new(&scratch.join("chroot")).unwrap();
    let mut names: Vec<&str> = PACKAGES.split_whitespace().collect();
    names.push(FASTEST.kernel_package());
    for package in fetch::Archive::open(cache, FASTEST).unwrap().packages(&names, false).unwrap() {
        let to = if package.name.starts_with("linux-image") {
            scratch.join("kernel")
        } else {
            root.top().to_path_buf()
        };
        package.unpack(&to).unwrap();
    }
    for (name, path) in walk(&scratch.join("kernel/lib/modules")).unwrap() {
        let file = name.rsplit('/').next().unwrap_or_default();
        if ["dm-bufio.ko", "reed_solomon.ko", "dm-verity.ko"].contains(&file) {
            root.copy(&path, &format!("modules/{file}"), false).unwrap();
        }
    }
    let _ = std::fs::remove_dir_all(root.at("usr/share/doc"));
    let parts = Parts::get(cache, FASTEST, false).unwrap();
    root.copy(&parts.path("busybox"), "bin/sh", true).unwrap();
    for folder in ["proc", "sys", "dev", "run", "tmp", "data", "var/tmp"] {
        root.folder(folder).unwrap();
    }
    if !root.has("var/run") {
        root.link("../run", "var/run").unwrap();
    }
    root.copy(&scratch.join("ca.pem"), "etc/rauc/ca.pem", false).unwrap();
    let _ = std::fs::remove_file(root.at("etc/rauc/system.conf"));
    root.file("etc/rauc/system.conf", SYSTEM).unwrap();
    root.file("usr/lib/boot-backend", BACKEND).unwrap();
    root.mode("usr/lib/boot-backend", 0o755).unwrap();
    root.file("etc/passwd", "root:x:0:0::/:/bin/sh\nmessagebus:x:101:101::/:/bin/sh\n").unwrap();
    root.file("etc/group", "root:x:0:\nmessagebus:x:101:\n").unwrap();
    run(Command::new("tar").arg("-czf").arg(files.join("chroot.tar.gz")).arg("-C").arg(root.top()).arg("."));
}

/// The guest's commands before RAUC's first installation.
pub fn prepare(archive: &str) -> String {
    format!(
        "set -e; mkdir -p /mnt/data/rauc; cd /mnt/data/rauc; n=0
        until wget -q -O - {archive} | tar xz; do sleep 1; n=$((n+1)); [ $n -lt 30 ]; done
        mount -t proc p proc; mount -t sysfs s sys; mount --bind /dev dev; mount -t tmpfs t run; mkdir -p run/dbus
        modprobe dm_mod; for m in dm-bufio reed_solomon dm-verity; do insmod modules/$m.ko 2>/dev/null || modprobe $m 2>/dev/null || true; done
        chroot . /usr/bin/dbus-daemon --system --fork
        (chroot . /usr/bin/rauc --override-boot-slot=A service > data/service.log 2>&1 &)
        n=0; until chroot . /usr/bin/rauc status >/dev/null 2>&1; do sleep 1; n=$((n+1)); [ $n -lt 60 ]; done"
    )
}
