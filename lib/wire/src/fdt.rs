//! The node `/chosen` of a flattened device tree: what a boot loader tells a kernel (Devicetree Specification 0.4 §3.6,
//! §5; Linux Documentation/arch/arm64/booting.rst).

/// The first word.
const MAGIC: u32 = 0xD00D_FEED;
/// The version that we read and write; all since 2006 are compatible with it.
const VERSION: u32 = 17;
const COMPATIBLE: u32 = 16;
const HEADER: usize = 40;
/// The kernel maps no larger tree.
pub const LIMIT: usize = 2 << 20;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;

/// The tree with these properties of `/chosen`, which is made when missing; an empty value takes a property away.
/// Everything else stays. `None`: this is no device tree, or a broken one.
pub fn set_chosen(tree: &[u8], properties: &[(&str, Vec<u8>)]) -> Option<Vec<u8>> {
    let size = offset(tree, 4)?;
    let tree = tree.get(..size).filter(|_| size <= LIMIT)?;
    let (structure, strings, reserved) = (offset(tree, 8)?, offset(tree, 12)?, offset(tree, 16)?);
    if word(tree, 0)? != MAGIC || word(tree, 20)? < VERSION || word(tree, 24)? > VERSION {
        return None;
    }
    let structure = tree.get(structure..structure.checked_add(offset(tree, 36)?)?)?;
    let strings = tree.get(strings..strings.checked_add(offset(tree, 32)?)?)?;
    let mut writer = Writer { structure: Vec::new(), strings: strings.to_vec() };
    writer.copy(structure, properties)?;
    let reserved = reservations(tree, reserved)?;
    writer.finish(reserved, word(tree, 28)?)
}

/// The list of reserved memory: pairs of address and size up to one of zeros.
fn reservations(tree: &[u8], at: usize) -> Option<&[u8]> {
    let rest = tree.get(at..)?;
    let end = rest.chunks_exact(16).position(|pair| pair.iter().all(|byte| *byte == 0))?;
    rest.get(..end.checked_add(1)?.checked_mul(16)?)
}

struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    /// Copies the nodes, with other properties in `/chosen`.
    fn copy(&mut self, structure: &[u8], properties: &[(&str, Vec<u8>)]) -> Option<()> {
        let (mut at, mut depth, mut chosen, mut done) = (0usize, 0u32, false, false);
        loop {
            let token = word(structure, at)?;
            let body = at.checked_add(4)?;
            let mut end = body;
            match token {
                BEGIN_NODE => {
                    let name = text(structure, body)?;
                    end = aligned(body.checked_add(name.len())?.checked_add(1)?);
                    depth = depth.checked_add(1)?;
                    chosen = depth == 2 && name == b"chosen" && !done;
                }
                END_NODE => {
                    // The root ends, and there was no such node.
                    if depth == 1 && !done {
                        self.word(BEGIN_NODE);
                        self.bytes(b"chosen\0");
                        self.properties(properties)?;
                        self.word(END_NODE);
                        done = true;
                    }
                    depth = depth.checked_sub(1)?;
                    chosen = false;
                }
                PROPERTY => {
                    let length = offset(structure, body)?;
                    let name = offset(structure, body.checked_add(4)?)?;
                    end = aligned(body.checked_add(8)?.checked_add(length)?);
                    let name = text(&self.strings, name)?;
                    if chosen && properties.iter().any(|(ours, _)| ours.as_bytes() == name) {
                        at = end;
                        continue;
                    }
                }
                NOTHING => {}
                END if depth == 0 && done => {
                    self.word(END);
                    return Some(());
                }
                _ => return None,
            }
            self.structure.extend_from_slice(structure.get(at..end)?);
            if token == BEGIN_NODE && chosen {
                self.properties(properties)?;
                done = true;
            }
            at = end;
        }
    }

    fn properties(&mut self, properties: &[(&str, Vec<u8>)]) -> Option<()> {
        for (name, value) in properties.iter().filter(|(_, value)| !value.is_empty()) {
            let place = u32::try_from(self.strings.len()).ok()?;
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            self.word(PROPERTY);
            self.word(u32::try_from(value.len()).ok()?);
            self.word(place);
            self.bytes(value);
        }
        Some(())
    }

    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        self.structure.resize(aligned(self.structure.len()), 0);
    }

    /// Header, reservations, structure, strings.
    fn finish(self, reserved: &[u8], processor: u32) -> Option<Vec<u8>> {
        let structure = HEADER.checked_add(reserved.len())?;
        let strings = structure.checked_add(self.structure.len())?;
        let size = strings.checked_add(self.strings.len()).filter(|size| *size <= LIMIT)?;
        let mut tree = Vec::with_capacity(size);
        let lengths = [size, structure, strings, HEADER];
        tree.extend_from_slice(&MAGIC.to_be_bytes());
        for length in lengths {
            tree.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        }
        for number in [VERSION, COMPATIBLE, processor] {
            tree.extend_from_slice(&number.to_be_bytes());
        }
        for length in [self.strings.len(), self.structure.len()] {
            tree.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        }
        tree.extend_from_slice(reserved);
        tree.extend_from_slice(&self.structure);
        tree.extend_from_slice(&self.strings);
        Some(tree)
    }
}

/// The value of a property of `/chosen`.
pub fn chosen<'a>(tree: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let (structure, strings) = (offset(tree, 8)?, offset(tree, 12)?);
    let (structure, strings) = (tree.get(structure..)?, tree.get(strings..)?);
    let (mut at, mut depth, mut inside) = (0usize, 0u32, false);
    loop {
        let body = at.checked_add(4)?;
        at = match word(structure, at)? {
            BEGIN_NODE => {
                let name = text(structure, body)?;
                depth = depth.checked_add(1)?;
                inside = depth == 2 && name == b"chosen";
                aligned(body.checked_add(name.len())?.checked_add(1)?)
            }
            END_NODE => {
                depth = depth.checked_sub(1)?;
                inside = false;
                body
            }
            PROPERTY => {
                let start = body.checked_add(8)?;
                let end = start.checked_add(offset(structure, body)?)?;
                let name = text(strings, offset(structure, body.checked_add(4)?)?)?;
                if inside && name == wanted.as_bytes() {
                    return structure.get(start..end);
                }
                aligned(end)
            }
            NOTHING => body,
            _ => return None,
        };
    }
}

/// Tokens stand at multiples of four.
fn aligned(at: usize) -> usize {
    at.saturating_add(3) & !3
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn offset(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word(bytes, at)?).ok()
}

/// Up to the zero, without it.
fn text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/ { model = "m"; chosen { bootargs = "old"; linux,initrd-start = <1>; kept = <2>; sub { bootargs = "deep"; }; };
    /// memory { }; };` or without `chosen`.
    fn tree(with_chosen: bool) -> Vec<u8> {
        let mut writer = Writer { structure: Vec::new(), strings: Vec::new() };
        let begin = |writer: &mut Writer, name: &[u8]| {
            writer.word(BEGIN_NODE);
            writer.bytes(name);
        };
        begin(&mut writer, b"\0");
        writer.properties(&[("model", b"m\0".to_vec())]).unwrap();
        if with_chosen {
            begin(&mut writer, b"chosen\0");
            writer.word(NOTHING);
            let values = [
                ("bootargs", b"old\0".to_vec()),
                ("linux,initrd-start", vec![0, 0, 0, 1]),
                ("kept", vec![2; 5]),
            ];
            writer.properties(&values).unwrap();
            begin(&mut writer, b"sub\0");
            writer.properties(&[("bootargs", b"deep\0".to_vec())]).unwrap();
            writer.word(END_NODE);
            writer.word(END_NODE);
        }
        begin(&mut writer, b"memory\0");
        for token in [END_NODE, END_NODE, END] {
            writer.word(token);
        }
        let mut reserved = vec![7; 16];
        reserved.extend([0; 16]);
        writer.finish(&reserved, 3).unwrap()
    }

    #[test]
    fn properties_are_set_and_taken_away_and_the_rest_stays() {
        for with_chosen in [true, false] {
            let ours = [("bootargs", b"root=x\0".to_vec()), ("linux,initrd-start", Vec::new())];
            let new = set_chosen(&tree(with_chosen), &ours).unwrap();
            assert_eq!(chosen(&new, "bootargs"), Some(&b"root=x\0"[..]));
            assert_eq!(chosen(&new, "linux,initrd-start"), None);
            assert_eq!(chosen(&new, "kept").is_some(), with_chosen);
            let count = |what: &[u8]| new.windows(what.len()).filter(|window| *window == what).count();
            assert_eq!((count(b"deep"), count(b"old"), count(b"model")), (usize::from(with_chosen), 0, 1));
            // Reservations and the processor are the same, and what was set stays when it is set again.
            assert_eq!((&new[40..56], word(&new, 28)), (&[7; 16][..], Some(3)));
            let again = set_chosen(&new, &ours).unwrap();
            assert_eq!(chosen(&again, "bootargs"), Some(&b"root=x\0"[..]));
        }
    }

    #[test]
    fn never_panics_on_mutated_trees() {
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut read = 0;
        for _ in 0..50_000 {
            let mut tree = tree(true);
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let index = usize::try_from(random >> 33).unwrap() % tree.len();
                tree[index] = u8::try_from(random & 0xFF).unwrap();
            }
            if random.is_multiple_of(4) {
                tree.truncate(usize::try_from(random >> 40).unwrap() % tree.len());
            }
            let _ = chosen(&tree, "bootargs");
            read += u32::from(set_chosen(&tree, &[("bootargs", vec![1, 0])]).is_some());
        }
        assert!(read > 1000);
    }
}
