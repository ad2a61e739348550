//! Numbered places for what comes and goes, and the tokens by which the event loop knows them: an event of something that
//! has just gone finds nothing, though its place may be taken again.

/// What a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Owner {
    /// Signals, the control socket, the settings' watch: the place says which.
    Fixed,
    /// A listener for datagrams, and one for connections.
    Datagrams,
    Listener,
    /// A client's connection.
    Client,
    /// A question that waits for servers; the part is the attempt.
    Question,
    /// A connection to a server; the place is the server's.
    Link,
    /// A question to `mdns`.
    Local,
}

const OWNERS: [Owner; 7] = [
    Owner::Fixed,
    Owner::Datagrams,
    Owner::Listener,
    Owner::Client,
    Owner::Question,
    Owner::Link,
    Owner::Local,
];

/// Eight bits of the owner, 32 of the generation, eight of the part and 16 of the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    pub(crate) fn new(owner: Owner, place: usize) -> Self {
        Self((owner as u64) << 56 | place as u64 & 0xffff)
    }

    pub(crate) fn with_generation(self, generation: u32) -> Self {
        Self(self.0 | u64::from(generation) << 24)
    }

    pub(crate) fn with_part(self, part: usize) -> Self {
        Self(self.0 & !0xff_0000 | (part as u64 & 0xff) << 16)
    }

    pub(crate) fn owner(self) -> Owner {
        let [owner, ..] = self.0.to_be_bytes();
        OWNERS.get(usize::from(owner)).copied().unwrap_or(Owner::Fixed)
    }

    pub(crate) fn place(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    pub(crate) fn part(self) -> usize {
        (self.0 >> 16 & 0xff) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 24) as u32
    }
}

/// The places.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    owner: Owner,
    most: usize,
    count: usize,
    slots: Vec<(u32, Option<Box<T>>)>,
}

impl<T> Slots<T> {
    /// `most` places, none of them taken.
    pub(crate) const fn new(owner: Owner, most: usize) -> Self {
        Self { owner, most, count: 0, slots: Vec::new() }
    }

    /// How many are taken.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.most
    }

    /// The token of what would be put into a place next; `None` when all are taken.
    pub(crate) fn next(&mut self) -> Option<Token> {
        if self.is_full() {
            return None;
        }
        let place = self.slots.iter().position(|(_, slot)| slot.is_none()).unwrap_or(self.slots.len());
        if place == self.slots.len() {
            self.slots.push((0, None));
        }
        let (generation, _) = self.slots.get(place)?;
        Some(Token::new(self.owner, place).with_generation(*generation))
    }

    /// Puts something into the place that [`Slots::next`] named.
    pub(crate) fn put(&mut self, token: Token, value: Box<T>) {
        if let Some((_, slot @ None)) = self.slots.get_mut(token.place()) {
            *slot = Some(value);
            self.count = self.count.saturating_add(1);
        }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slots.get_mut(token.place()) {
            Some((generation, slot)) if *generation == token.generation() => slot.as_deref_mut(),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Box<T>> {
        let (generation, slot) = self.slots.get_mut(token.place())?;
        if *generation != token.generation() {
            return None;
        }
        let value = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.count = self.count.saturating_sub(1);
        Some(value)
    }

    /// The first that is wanted.
    pub(crate) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<Token> {
        self.iter().find(|(_, value)| wanted(value)).map(|(token, _)| token)
    }

    /// All that are taken, with their tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        let owner = self.owner;
        self.slots.iter().enumerate().filter_map(move |(place, (generation, slot))| {
            Some((Token::new(owner, place).with_generation(*generation), slot.as_deref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_parts() {
        let token = Token::new(Owner::Link, 0xabcd).with_generation(u32::MAX).with_part(7).with_part(0xfe);
        assert_eq!(
            (token.owner(), token.place(), token.generation(), token.part()),
            (Owner::Link, 0xabcd, u32::MAX, 0xfe)
        );
        assert_eq!(Token(u64::MAX).owner(), Owner::Fixed);
    }

    #[test]
    fn what_has_gone_is_not_found_though_its_place_is_taken_again() {
        let mut slots = Slots::new(Owner::Client, 2);
        let first = slots.next().unwrap();
        slots.put(first, Box::new(1));
        let second = slots.next().unwrap();
        slots.put(second, Box::new(2));
        assert!(slots.is_full() && slots.next().is_none());
        assert_eq!(slots.remove(first).as_deref(), Some(&1));
        assert!(slots.remove(first).is_none());
        let third = slots.next().unwrap();
        slots.put(third, Box::new(3));
        assert_eq!(third.place(), first.place());
        assert!(slots.get_mut(first).is_none());
        assert_eq!(slots.get_mut(third.with_part(9)), Some(&mut 3));
        assert_eq!(
            slots.iter().map(|(token, value)| (token, *value)).collect::<Vec<_>>(),
            [(third, 3), (second, 2)]
        );
    }
}
