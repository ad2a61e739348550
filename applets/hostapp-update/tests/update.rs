//! The updater on loop devices: what each slot holds before and after, whatever happens.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Device, OLD, RUNNING, isolated};
use serde_json::Value;

#[test]
fn entry() {
    common::entry();
}

#[test]
fn status_tells_what_the_slots_hold() {
    isolated("status_tells_what_the_slots_hold", || {
        let device = Device::new("status");
        let report: Value = serde_json::from_str(&device.good("status --json")).unwrap();
        let expected = (&report["active"], &report["inactive"]);
        assert_eq!((&expected.0["slot"], &expected.1["slot"]), (&"A".into(), &"B".into()));
        assert_eq!((&expected.0["version"], &expected.0["id"]), (&RUNNING.into(), &OLD.into()));
        assert_eq!((&expected.1["version"], &expected.1["id"]), (&Value::Null, &Value::Null));
        assert_eq!(report["selection"]["chain"], "U-Boot");
        assert_eq!(
            (&report["selection"]["slot"], &report["selection"]["trial"]),
            (&"A".into(), &false.into())
        );
        let text = device.good("status");
        assert!(text.contains("active    A") && text.contains("selected  A, for good (U-Boot)"), "{text}");
        device.bad("rollback", "slot B holds no system");
    });
}
