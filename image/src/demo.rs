//! The demonstration application: an image made from Debian's BusyBox, and the `apps.json` that starts it.

use crate::arch::Arch;
use crate::error::Result;
use crate::kernel::Parts;
use crate::oci::{self, Compression, Image};
use crate::tar::Tar;
use crate::tree::{Root, Scratch};
use serde_json::{Value, json};

/// The image's reference.
pub const IMAGE: &str = "minke/demo:1";

/// The TCP port of the device on which the demo answers HTTP.
pub const PORT: u16 = 8080;

/// What the service prints first; later lines count up.
pub const FIRST_LINE: &str = "minke demo: line 1";

/// What its web page says.
pub const PAGE: &str = "minke demo: the container answers";

/// One line a second, and a web server on port 80 of the container.
const SERVICE: &str = "#!/bin/sh
# The first process of a container gets only signals that it asks for.
trap 'exit 0' TERM INT
httpd -p 80 -h /www
n=1
while :; do
  echo \"minke demo: line $n from $(hostname)\"
  n=$((n + 1))
  sleep 1 &
  wait $!
done
";

/// Builds the image for `arch`, as an archive.
pub fn image(arch: Arch, parts: &Parts, stamp: u64) -> Result<Vec<u8>> {
    let scratch = Scratch::new("demo")?;
    let root = Root::new(scratch.path())?;
    root.copy(&parts.path("busybox"), "bin/busybox", true)?;
    for name in [
        "sh", "cat", "echo", "env", "hostname", "httpd", "id", "ip", "kill", "ls", "mount", "nc", "ps", "rm",
        "sleep", "test", "touch", "wget",
    ] {
        root.link("busybox", &format!("bin/{name}"))?;
    }
    for folder in ["dev", "proc", "sys", "tmp", "etc"] {
        root.folder(folder)?;
    }
    root.file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n")?;
    root.file("www/index.html", format!("{PAGE}\n"))?;
    root.file("service", SERVICE)?;
    root.mode("service", 0o755)?;
    let config = json!({
        "Env": ["PATH=/bin"],
        "Cmd": ["/service"],
        "WorkingDir": "/",
        "ExposedPorts": { "80/tcp": {} },
    });
    let mut layer = Tar::new(stamp);
    layer.tree(root.top())?;
    Image::new(layer.finish(), arch, &config, stamp).archive(IMAGE, Compression::None, &[])
}

/// The target with that one service, in the supervisor's format 3 (spec supervisor §7.2).
pub fn apps() -> Value {
    let service = json!({
        "id": 1,
        "image_id": 1,
        "image": IMAGE,
        "environment": {},
        "labels": {},
        "composition": { "restart": "always", "ports": [format!("{PORT}:80")] },
    });
    let release = json!({ "id": 1, "services": { "demo": service }, "volumes": {}, "networks": {} });
    let app = json!({
        "id": 1,
        "name": "demo",
        "class": "fleet",
        "releases": { oci::identifier(&["demo", "release"]): release },
    });
    json!({ "config": {}, "apps": { oci::identifier(&["demo", "app"]): app }, "pinDevice": false })
}
