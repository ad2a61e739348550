//! A device joins a cloud of its owner's, with a certificate authority of the owner's own, and leaves it again (spec os
//! §4.6, §4.7). The cloud is Python's web server on the machine that runs the test; the guest reaches it at 10.0.2.2.

use crate::guest::{FASTEST, booted, direct, first_line, power_off, sh, start, try_sh, until};
use minke_image::guest::Guest;
use minke_tests::authority::Authority;
use minke_tests::cloud::{Cloud, FLEET_KEY};
use std::path::PathBuf;

/// The cloud, with its authority, in a folder that goes with it.
struct Lab {
    folder: PathBuf,
    authority: Authority,
    cloud: Cloud,
}

impl Lab {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("minke-cloud-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let authority = Authority::new(&folder, 0..3650);
        authority.issue("server", "IP:10.0.2.2", 0..3650);
        let cloud = Cloud::start(&folder, "server", 0);
        Self { folder, authority, cloud }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const COUNT: &str = "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt";

#[test]
fn a_device_joins_a_cloud_with_an_authority_of_its_own_and_leaves_it() {
    let lab = Lab::start();
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    let system: u32 = sh(&mut guest, COUNT).parse().unwrap();
    assert!(system > 100, "{system}");
    until(&mut guest, "[ $(systemctl show -p ActiveState --value os-config.timer) = active ]");
    // Who joins by hand is told at once that there is no network, and that may come later than the container.
    until(&mut guest, "network wait-online --timeout 60");
    let endpoint = format!("https://10.0.2.2:{}", lab.cloud.port());
    let fleet = |kind: &str| {
        format!(
            r#"{{"apiEndpoint":"{endpoint}","deviceType":"{kind}","balenaRootCA":"{}",
                "applicationId":7,"apiKey":"{FLEET_KEY}"}}"#,
            lab.authority.base64()
        )
    };
    let (text, status) = try_sh(&mut guest, &format!("os-config join '{}'", fleet("other")));
    assert!(status == 1 && text.contains("the fleet is for devices of type other"), "{text}");
    let (text, status) = try_sh(&mut guest, &format!("os-config join '{{\"apiEndpoint\":\"{endpoint}\"}}'"));
    assert!(status == 1 && text.contains("10.0.2.2: the certificate's issuer is unknown"), "{text}");
    let kind = sh(&mut guest, "sed -n 's/^SLUG=\"\\(.*\\)\"/\\1/p' /etc/os-release");
    let text = sh(&mut guest, &format!("os-config join '{}'", fleet(&kind)));
    assert!(
        text.contains("Awaiting balena-supervisor.service to exit...\nWriting /mnt/boot/config.json\n"),
        "{text}"
    );
    sh(&mut guest, "grep -qx \"config of $(config-json get deviceApiKey)\" /etc/openvpn/openvpn.conf");
    until(&mut guest, &format!("[ $({COUNT}) = {} ]", system + 1));
    until(&mut guest, "[ $(systemctl show -p ActiveState --value balena-supervisor) = active ]");
    assert!(sh(&mut guest, "os-config update").contains("No configuration changes"));
    // The supervisor registers the device, and the fleet's key goes.
    until(&mut guest, "[ $(config-json get deviceId) = 1000 ] && [ -z \"$(config-json get apiKey)\" ]");
    until(&mut guest, "! supervisor status | grep -q registration");
    let made = lab.cloud.requests().into_iter().find(|made| made["document"]["application"] == 7).unwrap();
    let own = |guest: &mut Guest, key: &str| sh(guest, &format!("config-json get {key}"));
    assert_eq!(made["document"]["uuid"], own(&mut guest, "uuid"));
    assert_eq!(made["document"]["api_key"], own(&mut guest, "deviceApiKey"));
    assert_eq!(made["document"]["device_type"], kind);
    let address = sh(&mut guest, "cat /sys/class/net/e*/address | tr a-f A-F");
    let told = made["document"]["mac_address"].as_str().unwrap();
    assert!(told.split(' ').any(|told| told == address), "{told}");
    // Who logs in to the VPN does it with the device's own key from now on.
    until(&mut guest, "tail -1 /var/volatile/vpn-auth | grep -qx $(config-json get deviceApiKey)");

    // A value that is of no use changes nothing, also at a boot, and the supervisor starts all the same.
    sh(&mut guest, "config-json set balenaRootCA '%%% no base64'");
    until(
        &mut guest,
        "journalctl -b -u extract-balena-ca -o cat --no-pager | grep -q 'balenaRootCA is not base64'",
    );
    power_off(&mut guest);
    guest.restart().unwrap();
    // The preloaded app is not the new fleet's.
    booted(&mut guest);
    assert_eq!(sh(&mut guest, COUNT), (system + 1).to_string());
    until(&mut guest, "[ $(systemctl show -p ActiveState --value balena-supervisor) = active ]");
    // At the boot the cloud was asked by itself.
    let asked = "journalctl -b -u os-config -o cat --no-pager | grep -q 'No configuration changes'";
    until(&mut guest, asked);

    sh(&mut guest, "os-config leave");
    until(&mut guest, &format!("[ $({COUNT}) = {system} ]"));
    sh(&mut guest, "! ls /etc/openvpn/openvpn.conf && [ -z \"$(config-json get apiEndpoint)\" ]");
    sh(&mut guest, "config-json get deviceApiKeys | grep -q 10.0.2.2");
    power_off(&mut guest);
}
