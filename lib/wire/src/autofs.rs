//! What the kernel says to the keeper of an automatic mount point (linux/auto_fs.h, kernel documentation
//! filesystems/autofs.rst): packets of protocol version 5, in the machine's byte order.

/// A packet's length, at most: `struct autofs_v5_packet` with its padding.
pub const PACKET: usize = 304;

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Somebody goes there: mount it. The number is for the answer.
    Mount(u32),
    /// It has not been used for so long: unmount it. The number is for the answer.
    Unmount(u32),
}

/// Reads a packet; `None`: it is none that a direct mount of version 5 sends.
pub fn request(packet: &[u8]) -> Option<Request> {
    const MISSING_DIRECT: u32 = 5;
    const EXPIRE_DIRECT: u32 = 6;
    let field = |at: usize| {
        let bytes = packet.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let token = field(8)?;
    match (field(0)?, field(4)?) {
        (5, MISSING_DIRECT) => Some(Request::Mount(token)),
        (5, EXPIRE_DIRECT) => Some(Request::Unmount(token)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let packet = |version: u32, kind: u32| {
            let mut bytes = [version, kind, 77].map(u32::to_ne_bytes).concat();
            bytes.resize(PACKET, 0);
            bytes
        };
        assert_eq!(request(&packet(5, 5)), Some(Request::Mount(77)));
        assert_eq!(request(&packet(5, 6)), Some(Request::Unmount(77)));
        assert_eq!((request(&packet(4, 5)), request(&packet(5, 0))), (None, None));
        for length in 0..12 {
            assert_eq!(request(&packet(5, 5)[..length]), None);
        }
    }
}
