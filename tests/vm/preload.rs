//! Preloaded images that are missing or broken: an error in the log, and a device that stays reachable.

use crate::guest::{FASTEST, booted, build, get_until, settings, sh, start, until};
use minke_image::machine::Start;
use minke_tests::project;

fn apps() -> std::path::PathBuf {
    let path = project().join("out/test-apps.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, minke_image::demo::apps().to_string()).unwrap();
    path
}

#[test]
fn a_corrupt_archive_is_put_aside() {
    let archive = project().join("out/test-corrupt.tar");
    let apps = apps();
    std::fs::write(&archive, [0x5a; 70_000]).unwrap();
    let options = ["--preload", archive.to_str().unwrap(), "--app", apps.to_str().unwrap()];
    let image = build(FASTEST, "minke-test-corrupt.img", &options);
    let mut guest = start(settings(FASTEST, &image, Start::Direct));
    booted(&mut guest);
    until(&mut guest, "systemctl is-active -q balena-supervisor && systemctl is-active -q balena");
    assert!(sh(&mut guest, "ls /mnt/data/preload").contains(".bad"));
    let errors = "journalctl -b -p err -u balena -o cat --no-pager";
    until(&mut guest, &format!("{errors} | grep -q /preload/"));
    let log = sh(&mut guest, errors);
    assert_eq!(log.lines().filter(|line| line.contains("/preload/")).count(), 1, "{log}");
    get_until(&guest, 48484, "/ping", "OK");
    until(&mut guest, "journalctl -b -u balena-supervisor -o cat --no-pager | grep -q apps.json");
}

#[test]
fn a_missing_archive_is_told() {
    let mut guest = start(settings(FASTEST, &crate::guest::image(FASTEST), Start::Direct));
    // Before the engine has loaded it, the archive goes away: as after a copy that was never finished.
    crate::guest::first_line(&mut guest);
    sh(
        &mut guest,
        "systemctl stop balena-supervisor && systemctl stop balena && rm -rf /mnt/data/docker/* /mnt/data/resin-data/* && \
         cp /mnt/data/apps.json.preloaded /mnt/data/apps.json && sync",
    );
    crate::guest::power_off(&mut guest);
    guest.restart().unwrap();
    booted(&mut guest);
    until(&mut guest, "systemctl is-active -q balena-supervisor && systemctl is-active -q balena");
    until(&mut guest, "journalctl -b -u balena-supervisor -o cat --no-pager | grep -q minke/demo");
    get_until(&guest, 48484, "/ping", "OK");
}
