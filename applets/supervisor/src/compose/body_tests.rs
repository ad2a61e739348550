use super::*;
use minke_wire::json::json;

fn image() -> Image {
    Image {
        id: "sha256:abc".into(),
        cmd: vec!["run".into()],
        entrypoint: vec!["/entry".into()],
        env: vec!["PATH=/bin".into(), "MODE=image".into()],
        labels: vec![("from".into(), "image".into()), ("io.balena.app-id".into(), "999".into())],
        volumes: vec!["/cache".into()],
        working_dir: "/srv/".into(),
        user: "app".into(),
        stop_signal: "SIGINT".into(),
        healthcheck: json!({ "Test": ["CMD", "true"], "Retries": 2 }),
    }
}

fn wanted(composition: &Value, image: Option<&Image>) -> Result<Box<Wanted>, String> {
    let value = json!({ "id": 7, "name": "fleet", "releases": { "c0ffee": { "id": 34, "services": { "web": {
        "id": 5, "image_id": 6, "image": "demo:1", "environment": { "MODE": "user", "USER": "me" },
        "labels": { "l": "service" }, "composition": composition } } } } });
    let app = crate::target::app("uuid1", &value).unwrap();
    let release = app.release.clone().unwrap();
    container(&app, &release, &release.services[0], image, &Device::sample(), "k3y")
}

fn body(composition: &Value) -> Value {
    wanted(composition, Some(&image())).unwrap().body
}

#[test]
fn the_image_gives_defaults_and_the_composition_wins() {
    let plain = body(&json!({}));
    for (field, value) in [
        ("/Image", json!("sha256:abc")),
        ("/Cmd", json!(["run"])),
        ("/Entrypoint", json!(["/entry"])),
        ("/WorkingDir", json!("/srv")),
        ("/User", json!("app")),
        ("/StopSignal", json!("SIGINT")),
        ("/StopTimeout", json!(10)),
        ("/Tty", json!(true)),
        ("/Healthcheck", json!({ "Test": ["CMD", "true"], "Retries": 2 })),
        ("/Volumes", json!({ "/cache": {} })),
        ("/HostConfig/RestartPolicy", json!({ "Name": "always", "MaximumRetryCount": 0 })),
        ("/HostConfig/IpcMode", json!("shareable")),
        ("/HostConfig/ShmSize", json!(67_108_864)),
        ("/HostConfig/NetworkMode", json!("uuid1_default")),
        ("/HostConfig/Privileged", json!(false)),
        ("/NetworkingConfig/EndpointsConfig", json!({ "uuid1_default": { "Aliases": ["web"] } })),
    ] {
        assert_eq!(plain.pointer(field), Some(&value), "{field}");
    }
    assert_eq!(plain.pointer("/HostConfig/Init"), None);
    let composition = json!({
        "command": "sh -c 'echo $A'", "entrypoint": ["/other"], "working_dir": "/", "user": 0, "tty": false,
        "stop_signal": 9, "stop_grace_period": "1m30s", "init": true, "privileged": true, "read_only": true,
        "cap_add": ["NET_ADMIN"], "devices": ["/dev/a", "/dev/b:/dev/c:r"], "dns": "9.9.9.9",
        "extra_hosts": ["h=1.1.1.1", "v6:::1"], "security_opt": ["label=x", "no-new-privileges"],
        "tmpfs": "/run", "mem_limit": "64m", "shm_size": "1k", "cpus": minke_wire::json::parse_str("0.5").unwrap(), "cpu_shares": "2",
        "sysctls": ["net.a=1"], "ulimits": { "nofile": 5, "core": { "soft": 1, "hard": 2 } },
        "healthcheck": { "test": "curl x", "interval": "30s", "retries": 3 },
        "pid": "host", "pids_limit": 9, "depends_on": ["db"], "hostname": "h"
    });
    let full = body(&composition);
    for (field, value) in [
        ("/Cmd", json!(["sh", "-c", "echo $A"])),
        ("/Entrypoint", json!(["/other"])),
        ("/WorkingDir", json!("/")),
        ("/User", json!("0")),
        ("/Tty", json!(false)),
        ("/StopSignal", json!("9")),
        ("/StopTimeout", json!(90)),
        ("/Hostname", json!("h")),
        ("/Healthcheck", json!({ "Test": ["CMD-SHELL", "curl x"], "Retries": 3, "Interval": 30000000000 })),
        ("/HostConfig/Init", json!(true)),
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
        ("/HostConfig/Devices/0/PathInContainer", json!("/dev/a")),
        ("/HostConfig/Devices/1/CgroupPermissions", json!("r")),
        ("/HostConfig/Dns", json!(["9.9.9.9"])),
        ("/HostConfig/ExtraHosts", json!(["h:1.1.1.1", "v6:::1"])),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ("/HostConfig/Tmpfs", json!({ "/run": "" })),
        ("/HostConfig/Memory", json!(67_108_864)),
        ("/HostConfig/ShmSize", json!(1024)),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/CpuShares", json!(2)),
        ("/HostConfig/Sysctls", json!({ "net.a": "1" })),
        ("/HostConfig/Ulimits/0", json!({ "Name": "nofile", "Soft": 5, "Hard": 5 })),
        ("/HostConfig/Ulimits/1", json!({ "Name": "core", "Soft": 1, "Hard": 2 })),
        ("/HostConfig/PidMode", json!("host")),
        ("/HostConfig/PidsLimit", json!(9)),
    ] {
        assert_eq!(full.pointer(field), Some(&value), "{field}");
    }
}

#[test]
fn without_an_image_the_name_stands_in_and_nothing_is_guessed() {
    let body = wanted(&json!({}), None).unwrap().body;
    assert_eq!((&body["Image"], &body["Cmd"]), (&json!("demo:1"), &json!([])));
    assert_eq!(body["StopSignal"], "SIGTERM");
    assert_eq!(body["Healthcheck"], json!({ "Test": ["NONE"] }));
}

#[test]
fn the_environment_has_both_prefixes_and_the_user_wins() {
    let body = body(&json!({ "environment": ["MODE=compose", "EXTRA=1"] }));
    let all: Vec<&str> = body["Env"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for line in [
        "MODE=user",
        "USER=me",
        "EXTRA=1",
        "PATH=/bin",
        "BALENA=1",
        "RESIN=1",
        "BALENA_APP_ID=7",
        "RESIN_APP_UUID=uuid1",
        "BALENA_SERVICE_NAME=web",
        "RESIN_DEVICE_TYPE=generic-amd64",
        "BALENA_APP_LOCK_PATH=/tmp/balena/updates.lock",
        "BALENA_SERVICE_HANDOVER_COMPLETE_PATH=/tmp/balena/handover-complete",
    ] {
        assert!(all.contains(&line), "{line} in {all:?}");
    }
    let names: std::collections::BTreeSet<_> =
        all.iter().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names.len(), all.len(), "each name once: {all:?}");
    assert!(!names.contains("BALENA_DEVICE_NAME_AT_INIT"));
}

#[test]
fn what_is_added_at_create_is_not_part_of_the_hash() {
    let wanted = wanted(&json!({}), Some(&image())).unwrap();
    assert_eq!(wanted.name, "web_6_34_c0ffee");
    let body = wanted.create_body("shed sensor", Some("cafe"));
    assert_eq!(body["Labels"][super::super::HASH_LABEL], wanted.hash.as_str());
    assert!(body["Env"].as_array().unwrap().contains(&json!("RESIN_DEVICE_NAME_AT_INIT=shed sensor")));
    assert_eq!(body["HostConfig"]["NetworkMode"], "container:cafe");
}

#[test]
fn system_labels_win_and_image_labels_fill_gaps() {
    let labels =
        body(&json!({ "labels": { "l": "compose", "io.balena.service-name": "evil" } }))["Labels"].clone();
    for (name, value) in [
        ("io.balena.supervised", "true"),
        ("io.balena.app-id", "7"),
        ("io.balena.service-name", "web"),
        ("l", "service"),
        ("from", "image"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }
}

#[test]
fn volumes_ports_and_locks() {
    let wanted = wanted(
        &json!({ "volumes": ["data:/data"], "ports": ["80:8080", "81:8080", "127.0.0.1:53:53/udp"] }),
        Some(&image()),
    )
    .unwrap();
    let host = &wanted.body["HostConfig"];
    let locks = "/tmp/balena-supervisor/services/7/web";
    let binds = json!([format!("{locks}:/tmp/resin"), format!("{locks}:/tmp/balena"), "7_data:/data"]);
    assert_eq!(host["Binds"], binds);
    assert_eq!(
        host["PortBindings"]["8080/tcp"],
        json!([{ "HostIp": "", "HostPort": "80" }, { "HostIp": "", "HostPort": "81" }])
    );
    assert_eq!(wanted.body["ExposedPorts"], json!({ "8080/tcp": {}, "53/udp": {} }));
    assert_eq!(wanted.volumes, ["7_data"]);
}

#[test]
fn restart_policies_of_people_and_of_yaml() {
    for (value, name) in [
        (json!(null), "always"),
        (json!(false), "no"),
        (json!(""), "no"),
        (json!("no"), "no"),
        (json!(" On-Failure "), "on-failure"),
        (json!("unless-stopped"), "unless-stopped"),
        (json!("sometimes"), "always"),
        (json!(5), "always"),
    ] {
        assert_eq!(
            body(&json!({ "restart": value }))["HostConfig"]["RestartPolicy"]["Name"],
            name,
            "{value}"
        );
    }
}

#[test]
fn health_checks_can_be_switched_off_or_changed_in_part() {
    let check = |value: Value| body(&json!({ "healthcheck": value }))["Healthcheck"].clone();
    assert_eq!(check(json!({ "disable": true })), json!({ "Test": ["NONE"] }));
    assert_eq!(check(json!({ "retries": "5" })), json!({ "Test": ["CMD", "true"], "Retries": 5 }));
    assert_eq!(check(json!({ "test": ["CMD", "x"] }))["Test"], json!(["CMD", "x"]));
}

#[test]
fn network_modes() {
    let host = body(&json!({ "network_mode": "host", "hostname": "h" }));
    assert_eq!((&host["HostConfig"]["NetworkMode"], &host["Hostname"]), (&json!("host"), &json!("shed")));
    assert_eq!(host["NetworkingConfig"]["EndpointsConfig"], json!({}));
    let shared = wanted(&json!({ "network_mode": "service:db" }), Some(&image())).unwrap();
    assert_eq!((shared.network_of.as_deref(), &*shared.depends_on), (Some("db"), &["db".to_owned()][..]));
}

#[test]
fn what_cannot_be_run_is_an_error() {
    for composition in
        [json!({ "command": "echo 'x" }), json!({ "entrypoint": 5 }), json!({ "ports": ["80-79:80"] })]
    {
        assert!(wanted(&composition, None).is_err(), "{composition}");
    }
}
