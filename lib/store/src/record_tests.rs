use super::*;
use minke_wire::json::json;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("minke-record-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn record(&self) -> PathBuf {
        self.0.join("state.json")
    }
    fn open(&self) -> (Record, Option<Value>, Condition) {
        Record::open(&self.record(), 0o600).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_record_is_written_read_and_removed() {
    let folder = Folder::new("life");
    let (mut record, value, condition) = folder.open();
    assert_eq!((value, condition), (None, Condition::Missing));
    record.write(&json!({"a": 1, "big": u64::MAX})).unwrap();
    record.write(&json!(["ü", "\n"])).unwrap();
    let (record, value, condition) = folder.open();
    assert_eq!((value, condition), (Some(json!(["ü", "\n"])), Condition::Good));
    // People can read it with any JSON tool.
    let whole: Value = minke_wire::json::parse(&std::fs::read(folder.record()).unwrap()).unwrap();
    assert_eq!(whole["record"], json!(["ü", "\n"]));
    record.remove().unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    let huge = Value::from("x".repeat(MAX_RECORD));
    assert!(matches!(folder.open().0.write(&huge), Err(Error::TooLarge(_))));
}

#[test]
fn every_truncation_and_every_flipped_byte_falls_back_to_the_copy_before() {
    let folder = Folder::new("damage");
    let (mut record, ..) = folder.open();
    record.write(&json!({"old": true})).unwrap();
    record.write(&json!({"new": [1, 2, 3]})).unwrap();
    let good = std::fs::read(folder.record()).unwrap();
    let check = |damaged: &[u8]| {
        std::fs::write(folder.record(), damaged).unwrap();
        let (_, value, condition) = folder.open();
        assert_eq!(value, Some(json!({"old": true})));
        assert!(matches!(condition, Condition::FellBack(_)) && condition.problem().is_some());
    };
    for length in 0..good.len() {
        check(&good[..length]);
    }
    for index in 0..good.len() {
        // The checksum's digits may change case without harm; every other change must be seen.
        for flip in [0x01, 0x80] {
            let mut damaged = good.clone();
            damaged[index] ^= flip;
            check(&damaged);
        }
    }
    check(&[0; 4096]);
    // Both copies bad: the record is lost, and can be written again.
    std::fs::write(folder.0.join(".state.json.previous"), b"{").unwrap();
    let (mut record, value, condition) = folder.open();
    assert!(value.is_none() && matches!(condition, Condition::Lost(_)));
    record.write(&json!(1)).unwrap();
    assert_eq!(folder.open().2, Condition::Good);
}

#[test]
fn a_write_over_a_damaged_copy_keeps_the_last_good_one() {
    let folder = Folder::new("repair");
    let (mut record, ..) = folder.open();
    record.write(&json!(1)).unwrap();
    record.write(&json!(2)).unwrap();
    std::fs::write(folder.record(), b"rot").unwrap();
    let (mut record, value, _) = folder.open();
    assert_eq!(value, Some(json!(1)));
    record.write(&json!(3)).unwrap();
    std::fs::write(folder.record(), b"rot").unwrap();
    assert_eq!(folder.open().1, Some(json!(1)));
}

/// What a power cut may have done to names that were changed and not brought to the disk: each of the last
/// changes in their order is there or not, from some point on.
#[test]
fn a_power_cut_after_any_step_leaves_the_old_or_the_new_document() {
    let (old, new) = (json!({"generation": 1}), json!({"generation": 2, "more": "x".repeat(300)}));
    let content = encode(&new);
    // How the record looks before: never written, written once, twice, or with a damaged newest copy.
    for (start, before) in [("none", None), ("once", Some(&old)), ("twice", Some(&old)), ("rot", Some(&old))]
    {
        for cut in 0..=steps(true).len() {
            // While the new copy is written, any part of it may be on the disk.
            let torn = if cut == 0 { vec![0, 1, 20, content.len() - 1] } else { vec![content.len()] };
            for length in torn {
                let folder = Folder::new("cut");
                let (mut record, ..) = folder.open();
                match start {
                    "none" => {}
                    "once" => record.write(&old).unwrap(),
                    "twice" => {
                        record.write(&json!(0)).unwrap();
                        record.write(&old).unwrap();
                    }
                    _ => {
                        record.write(&old).unwrap();
                        record.write(&json!(0)).unwrap();
                        std::fs::write(folder.record(), &content[..30]).unwrap();
                    }
                }
                let (mut record, ..) = folder.open();
                if cut == 0 {
                    std::fs::write(record.side("new"), &content[..length]).unwrap();
                }
                let plan = steps(record.current_is_good);
                for step in plan.iter().take(cut) {
                    record.execute(*step, &content).unwrap();
                }
                let (mut record, value, condition) = folder.open();
                let replaced = plan.iter().take(cut).any(|step| *step == Step::Replace);
                let expected = if replaced { Some(&new) } else { before };
                assert_eq!(value.as_ref(), expected, "{start}, cut after {cut}: {condition:?}");
                if replaced && before.is_some() {
                    // The copy before it is good as well.
                    std::fs::write(folder.record(), b"").unwrap();
                    assert_eq!(folder.open().1.as_ref(), before, "{start}");
                }
                // And the next write works.
                record.write(&json!("next")).unwrap();
                assert_eq!(folder.open().1, Some(json!("next")));
            }
        }
    }
}

#[test]
fn a_cut_removal_leaves_the_document_or_nothing() {
    for cut in 0..3 {
        let folder = Folder::new("remove");
        let (mut record, ..) = folder.open();
        record.write(&json!(1)).unwrap();
        record.write(&json!(2)).unwrap();
        // The order of `remove`: previous, new, newest.
        for path in [record.side("previous"), record.side("new"), folder.record()].iter().take(cut) {
            let _ = std::fs::remove_file(path);
        }
        assert_eq!(folder.open().1, Some(json!(2)), "the copy before must not come back");
        folder.open().0.remove().unwrap();
        assert_eq!(folder.open().2, Condition::Missing);
    }
}

#[test]
fn a_full_disk_leaves_the_record_and_no_litter() {
    let folder = Folder::new("full");
    let (mut record, ..) = folder.open();
    record.write(&json!(1)).unwrap();
    let mut broken = Record { path: folder.0.join("none/state.json"), mode: 0o600, current_is_good: false };
    assert!(matches!(broken.write(&json!(2)), Err(Error::System(_))));
    assert_eq!(folder.open().1, Some(json!(1)));
    // A folder in the way of the new copy, as /dev/full cannot be renamed.
    std::fs::create_dir(record.side("new")).unwrap();
    assert!(record.write(&json!(2)).is_err());
    assert_eq!(folder.open().1, Some(json!(1)));
}
