//! Create bodies: what the supervisor and the docker command line send, and what nobody should.

use super::*;
use minke_wire::json::json;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn image() -> Map {
    let image = json!({
        "Cmd": ["serve"], "Entrypoint": ["/entry"], "Env": ["PATH=/bin", "A=image"], "User": "web",
        "Labels": { "from": "image", "both": "image" }, "Volumes": { "/data": {} }, "StopSignal": "SIGINT"
    });
    image.as_object().cloned().unwrap()
}

/// A body like the supervisor's (spec supervisor §9.3).
fn body() -> Value {
    json!({
        "Tty": true, "Cmd": ["a", "b"], "Env": ["Z=1", "A=user"], "Image": "sha256:1", "Hostname": "",
        "Labels": { "io.balena.supervised": "true", "both": "user" }, "StopTimeout": 10,
        "Healthcheck": { "Test": ["NONE"] },
        "NetworkingConfig": { "EndpointsConfig": { "u_default": { "Aliases": ["main"] } } },
        "HostConfig": {
            "Binds": ["/tmp/x:/tmp/balena", "1_v:/v"], "NetworkMode": "u_default",
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] }, "CapAdd": ["SYS_TIME"],
            "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 }, "ShmSize": 67108864,
            "Ulimits": [{ "Name": "nofile", "Soft": 10, "Hard": 20 }], "Sysctls": { "net.ipv4.ip_forward": "1" },
            "Tmpfs": { "/run": "" }, "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/x" }]
        }
    })
}

fn text(value: &Value, key: &str) -> String {
    value.at(key).to_string()
}

#[test]
fn what_was_sent_comes_back_and_the_image_fills_the_gaps() {
    let created = create(body(), &image(), ID).unwrap();
    let config = &created.config;
    assert_eq!(text(config, "Cmd"), r#"["a","b"]"#);
    assert_eq!(text(config, "Entrypoint"), r#"["/entry"]"#);
    assert_eq!(text(config, "Env"), r#"["Z=1","A=user","PATH=/bin"]"#);
    assert_eq!(text(config, "Labels"), r#"{"io.balena.supervised":"true","both":"user","from":"image"}"#);
    assert_eq!((config.text("User"), config.text("StopSignal")), ("web", "SIGINT"));
    assert_eq!((config.text("Image"), config.text("Hostname")), ("sha256:1", "0123456789ab"));
    assert_eq!(created.host.at("Init"), &Value::Null);
    assert_eq!(created.host.at("Binds"), body().at("HostConfig").at("Binds"));
    assert_eq!(created.mounts.len(), 4);
    assert!(created.endpoints.contains_key("u_default"));
}

#[test]
fn entry_points_follow_the_references_rules() {
    let make = |extra: Value| {
        let mut body = json!({ "Image": "x" });
        body.make_object().extend(extra.as_object().cloned().unwrap());
        create(body, &image(), ID)
            .map(|created| (text(&created.config, "Entrypoint"), text(&created.config, "Cmd")))
    };
    let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
    assert_eq!(make(json!({})), pair(r#"["/entry"]"#, r#"["serve"]"#));
    assert_eq!(make(json!({ "Cmd": ["x"] })), pair(r#"["/entry"]"#, r#"["x"]"#));
    assert_eq!(make(json!({ "Entrypoint": ["y"] })), pair(r#"["y"]"#, "null"));
    assert_eq!(make(json!({ "Entrypoint": [], "Cmd": ["x"] })), pair("[]", r#"["x"]"#));
}

#[test]
fn restart_no_is_never_empty() {
    let created =
        create(json!({ "Image": "x", "HostConfig": { "RestartPolicy": {} } }), &image(), ID).unwrap();
    assert_eq!(created.host.at("RestartPolicy").to_string(), r#"{"Name":"no","MaximumRetryCount":0}"#);
    assert_eq!(created.host.text("NetworkMode"), "bridge");
}

#[test]
fn capabilities_add_and_drop() {
    let set = |host: Value| capabilities(&host).unwrap();
    let named = |name| Capabilities::by_name(name).unwrap();
    let default = set(json!({}));
    assert_eq!(default.0.count_ones(), 14);
    assert_eq!(
        set(json!({ "CapAdd": ["SYS_TIME"], "CapDrop": ["CAP_CHOWN"] })),
        default.with(named("SYS_TIME")).without(named("CHOWN"))
    );
    assert_eq!(set(json!({ "CapDrop": ["ALL"], "CapAdd": ["NET_RAW"] })), named("NET_RAW"));
    assert_eq!(
        set(json!({ "CapAdd": ["all"], "CapDrop": ["MKNOD"] })),
        Capabilities::ALL.without(named("MKNOD"))
    );
    assert_eq!(set(json!({ "Privileged": true })), Capabilities::ALL);
}

#[test]
fn nonsense_is_refused_with_status_400() {
    let refused = [
        json!({ "HostConfig": [] }),
        json!({ "Env": "A", "Cmd": 3 }),
        json!({ "Env": ["=x"] }),
        json!({ "Env": [1] }),
        json!({ "Hostname": "a/b" }),
        json!({ "Labels": [] }),
        json!({ "ExposedPorts": { "x/tcp": {} } }),
        json!({ "HostConfig": { "Memory": 1000 } }),
        json!({ "HostConfig": { "Memory": "1" } }),
        json!({ "HostConfig": { "CapAdd": ["NOPE"] } }),
        json!({ "HostConfig": { "RestartPolicy": { "Name": "maybe" } } }),
        json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostPort": "99999" }] } } }),
        json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "here" }] } } }),
        json!({ "HostConfig": { "Sysctls": { "kernel.panic": "1" } } }),
        json!({ "HostConfig": { "Sysctls": { "net.a/../../kernel/panic": "1" } } }),
        json!({ "HostConfig": { "Ulimits": [{ "Name": "nofile", "Soft": 9, "Hard": 1 }] } }),
        json!({ "HostConfig": { "Devices": [{ "PathOnHost": "/etc/passwd" }] } }),
        json!({ "HostConfig": { "Binds": ["relative/path:/x"] } }),
    ];
    for body in refused {
        let error = create(body.clone(), &image(), ID).unwrap_err();
        assert_eq!(error.status, 400, "{body}: {error}");
    }
    assert_eq!(create(json!({}), &Map::new(), ID).unwrap_err().message, "no command specified");
}

#[test]
fn mutated_bodies_never_panic() {
    let base = body().to_string().into_bytes();
    let image = image();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let pieces: [&[u8]; 8] =
        [b"null", b"[]", b"{}", b"-1", b"1e999", b"\"\\u0000\"", b"[[[[", b"18446744073709551616"];
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = base.clone();
        for _ in 0..=random() % 4 {
            let place = usize::try_from(random()).unwrap() % bytes.len().max(1);
            if bytes.is_empty() {
                break;
            }
            match random() % 4 {
                0 => bytes[place] = u8::try_from(random() & 0xff).unwrap(),
                1 => drop(bytes.remove(place)),
                2 => bytes.truncate(place.max(1)),
                _ => {
                    let piece = pieces[usize::try_from(random()).unwrap() % pieces.len()];
                    let end = (place + piece.len()).min(bytes.len());
                    bytes.splice(place..end, piece.iter().copied());
                }
            }
        }
        if let Ok(body) = parse(&bytes) {
            accepted += usize::from(create(body, &image, ID).is_ok());
        }
    }
    assert!(accepted > 100, "the mutator leaves hardly any body whole: {accepted}");
}
