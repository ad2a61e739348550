//! The development mode, switched at run time by `config.json` (spec os §8.5, §17.2).

use crate::guest::{FASTEST, direct, first_line, settings, sh, start, until, wait};
use minke_image::guest::Guest;
use minke_image::machine::Start;
use minke_image::shell::SHELL_SIGN;
use minke_tests::{outside, project, run};
use std::process::Command;

/// The banner's last line.
const BANNER: &str = "Booted - Check your balenaCloud dashboard.";
/// Asks the engine on its TCP port. (BusyBox on aarch64 crashes with a time limit, `-T`.)
const PING: &str = "wget -q -O - http://127.0.0.1:2375/_ping";
/// The container's main process, and those of units that have nothing to do with the mode.
const BYSTANDERS: &str = "ps | grep '[/]service' | awk '{print $1}' | head -1; \
    for u in balena-supervisor NetworkManager systemd-journald; do systemctl show -p MainPID --value $u; done";

/// Leaves the mode and enters it again while nobody is at the console, as the shell there ends with the mode.
const PROBE: &str = r#"
say() { echo "$*" >> /run/probe.log; }
until_it() { n=0; until eval "$1"; do n=$((n+1)); [ $n -lt 900 ] || { say "never: $1"; return; }; sleep 0.2; done; }
PING='PING_COMMAND >/dev/null 2>&1'
sleep 1
config-json set developmentMode false
until_it '! test -e /var/volatile/development-features && ! systemctl is-active -q console-shell getty@tty1'
until_it 'systemctl is-active -q balena'
eval "$PING" && say 'the port is open'
balena version >/dev/null || say 'the engine does not answer'
for u in console-shell getty@tty1 balena-info@tty1; do say "$u $(systemctl is-active $u)"; done
(BYSTANDERS_COMMAND) > /run/bystanders.off
config-json set developmentMode true
until_it 'systemctl is-active -q console-shell getty@tty1'
until_it "$PING"
until_it 'systemctl is-active -q balena-info@tty1 && grep -q "Booted - Check your balenaCloud dashboard" /dev/vcs1'
(BYSTANDERS_COMMAND) > /run/bystanders.on
say done
"#;

#[test]
fn the_mode_is_left_and_entered_at_run_time() {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    until(&mut guest, &format!("{PING} | grep -qx OK"));
    sh(&mut guest, "systemctl is-active console-shell getty@tty1 development-features.target");
    let engine = sh(&mut guest, "systemctl show -p MainPID --value balena");
    let bystanders = sh(&mut guest, BYSTANDERS);
    assert_eq!(bystanders.lines().count(), 4, "{bystanders}");
    // The test's kernel argument keeps a shell on the console: not here.
    let probe = PROBE.replace("PING_COMMAND", PING).replace("BYSTANDERS_COMMAND", BYSTANDERS);
    sh(
        &mut guest,
        &format!(
            "mkdir -p /run/systemd/system/console-shell.service.d && cd /run/systemd/system && \
             printf '[Unit]\\nConditionKernelCommandLine=\\nConditionPathExists=/var/volatile/development-features\\n' \
             > console-shell.service.d/test.conf && cat > /run/probe.sh <<'END'\n{probe}\nEND\n\
             printf '[Unit]\\nDefaultDependencies=no\\n[Service]\\nType=oneshot\\nExecStart=/bin/sh /run/probe.sh\\n' > probe.service && \
             systemctl daemon-reload"
        ),
    );
    // The shell may go away before it could say that this is done.
    guest.send("systemctl start --no-block probe.service\n").unwrap();
    new_shell(&mut guest);
    until(&mut guest, "grep -qx done /run/probe.log");
    assert_eq!(
        sh(&mut guest, "cat /run/probe.log"),
        "console-shell inactive\ngetty@tty1 inactive\nbalena-info@tty1 inactive\ndone"
    );
    for when in ["off", "on"] {
        assert_eq!(sh(&mut guest, &format!("cat /run/bystanders.{when}")), bystanders, "{when}");
    }
    assert_ne!(sh(&mut guest, "systemctl show -p MainPID --value balena"), engine);
    // One restart of the engine for each change of the mode, and none that it did not ask for.
    let starts = "journalctl -b -u balena -o cat --no-pager | grep -c 'balena.service: started'";
    until(&mut guest, &format!("[ $({starts}) -ge 3 ]"));
    assert_eq!(sh(&mut guest, starts), "3");
    // The same content again changes nothing.
    let engine = sh(&mut guest, "systemctl show -p MainPID --value balena");
    sh(&mut guest, "touch /mnt/boot/config.json; config-json set developmentMode true; sleep 5");
    assert_eq!(sh(&mut guest, "systemctl show -p MainPID --value balena"), engine);
}

/// Waits for another shell than before. What is typed before it is there may come to it in part, with one quote of two.
fn new_shell(guest: &mut Guest) {
    wait(guest, BANNER);
    wait(guest, SHELL_SIGN);
    guest.forget_shell();
}

/// A production image has no console, and in development mode shells on its terminals all the same.
#[test]
fn a_production_image_has_a_shell_in_development_mode_alone() {
    let image = project().join("out").join(format!("minke-{}-production.img", FASTEST.name()));
    outside(|| run(Command::new(project().join("image/build")).arg(FASTEST.name()).arg("-o").arg(&image)));
    let mut settings = settings(FASTEST, &image, Start::Firmware);
    settings.config = Some(br#"{"developmentMode":true}"#.to_vec());
    let mut guest = start(settings);
    wait(&mut guest, BANNER);
    let port = format!("serial-getty@{}", FASTEST.console());
    sh(&mut guest, &format!("systemctl is-active {port} && ! systemctl is-active console-shell"));
    until(&mut guest, &format!("{PING} | grep -qx OK"));
    // The mode ends, and with it the shell that we type into; the port is open on no address.
    let leave = format!(
        "sleep 1; config-json set developmentMode false\n\
         n=0; while systemctl is-active -q getty@tty1 || systemctl is-active -q {port} || netstat -tln | grep -q :2375 || \
         ! netstat -tln | grep -q :48484 || ! balena version > /dev/null 2>&1; do\n\
         n=$((n+1)); [ $n -lt 240 ] || break; sleep 1; done\n\
         (netstat -tln; systemctl is-active getty@tty1 {port}) > /mnt/boot/seen; sync; config-json set developmentMode true"
    );
    sh(
        &mut guest,
        &format!(
            "cat > /run/leave.sh <<'END'\n{leave}\nEND\n\
             printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh /run/leave.sh\\n' > /run/systemd/system/leave.service && \
             systemctl daemon-reload"
        ),
    );
    guest.send("systemctl start --no-block leave.service\n").unwrap();
    new_shell(&mut guest);
    let seen = sh(&mut guest, "cat /mnt/boot/seen");
    assert!(seen.contains(":48484") && !seen.contains(":2375"), "{seen}");
    assert!(seen.ends_with("inactive\ninactive"), "{seen}");
}
