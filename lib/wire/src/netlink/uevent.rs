//! Device events of the kernel: `ACTION@DEVPATH`, then `KEY=VALUE` records, each ended by a zero byte
//! (Documentation/core-api/kobject.rst; lib/kobject_uevent.c).

/// One device event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// What happened: `add`, `remove`, `change`, `move`, `bind`, `unbind`, `online`, `offline`.
    pub action: &'a str,
    /// The device's folder below `/sys`, with its leading slash.
    pub devpath: &'a str,
    fields: &'a [u8],
}

impl<'a> Uevent<'a> {
    /// Reads an event as the kernel sends it. `None` when it is something else (udev's own messages begin
    /// with `libudev`) or damaged.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let (head, rest) = bytes.split_at_checked(end)?;
        let (action, devpath) = std::str::from_utf8(head).ok()?.split_once('@')?;
        let plausible = !action.is_empty() && devpath.starts_with('/');
        plausible.then_some(Self { action, devpath, fields: rest.get(1..).unwrap_or_default() })
    }

    /// All fields in their order. What is not UTF-8 or has no `=` is left out.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let records = self.fields.split(|byte| *byte == 0);
        records.filter_map(|record| std::str::from_utf8(record).ok()?.split_once('='))
    }

    /// The value of a field, for instance `SUBSYSTEM`, `DEVNAME`, `MODALIAS`, `MAJOR`.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.fields().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &[u8] =
        b"add@/devices/virtual/block/loop0\0ACTION=add\0DEVPATH=/devices/virtual/block/loop0\0\
        SUBSYSTEM=block\0MAJOR=7\0MINOR=0\0DEVNAME=loop0\0DEVTYPE=disk\0SEQNUM=1234\0";

    #[test]
    fn a_kernel_event_is_read() {
        let event = Uevent::parse(ADD).unwrap();
        assert_eq!((event.action, event.devpath), ("add", "/devices/virtual/block/loop0"));
        assert_eq!(event.get("DEVNAME"), Some("loop0"));
        assert_eq!(event.get("MODALIAS"), None);
        assert_eq!(event.fields().count(), 8);
    }

    #[test]
    fn other_messages_are_not_events() {
        for bytes in [&b""[..], b"libudev\0\xfe\xed\xca\xfe", b"add@/dev", b"@/dev\0", b"add@dev\0", b"add\0"]
        {
            assert_eq!(Uevent::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn damaged_fields_are_left_out() {
        let event = Uevent::parse(b"add@/a\0=x\0NOEQUALS\0\xff=1\0\0LAST=a=b").unwrap();
        assert_eq!(event.fields().collect::<Vec<_>>(), [("", "x"), ("LAST", "a=b")]);
    }
}
