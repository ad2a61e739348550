//! What a client has with one NTS server: keys, cookies, and the request that waits for its answer (RFC 8915 §5.7).
//! Pure: random numbers come in.

use super::aead::Key;
use minke_wire::ntp::{Kiss, Packet};
use minke_wire::nts::{Answer, COOKIES, IDENTIFIER, NONCE, cookies, identify, put_authenticator};

/// Bytes of random numbers that a request takes.
pub(crate) const RANDOM: usize = IDENTIFIER + NONCE;
/// Cookies that go to the disk at once. The others are enough for as many requests without an answer.
pub(crate) const RESERVE: usize = 3;

/// Keys and cookies of one key exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// For requests.
    pub(crate) to_server: Key,
    /// For answers.
    pub(crate) to_client: Key,
    /// At most [`COOKIES`]; each is sent once (RFC 8915 §5.7), so that nobody can follow a device by them.
    pub(crate) cookies: Vec<Vec<u8>>,
    /// The identifier and the cookie of the last request.
    asked: Option<Asked>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    identifier: [u8; IDENTIFIER],
    cookie: Vec<u8>,
}

/// What a packet turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server's own answer to the last request.
    Authentic,
    /// The server does not know the cookie any more, it seems: nobody has signed this.
    Nak,
    /// Anything else. It does not count: the true answer may come yet.
    Foreign,
}

impl Session {
    /// A session with the keys of a key exchange.
    pub(crate) fn new(to_server: Key, to_client: Key, cookies: Vec<Vec<u8>>) -> Self {
        Self { to_server, to_client, cookies, asked: None }
    }

    /// Appends its fields to the header of a request, with a cookie and as many placeholders as cookies are missing.
    /// `false`: there is no cookie left, and the request is as it was.
    pub(crate) fn seal(&mut self, request: &mut Vec<u8>, random: &[u8; RANDOM]) -> bool {
        let (Some(identifier), Some(nonce)) = (random.first_chunk(), random.last_chunk()) else {
            return false;
        };
        // The oldest first: the server forgets its key first.
        if self.cookies.is_empty() {
            return false;
        }
        let cookie = self.cookies.remove(0);
        // One comes for the cookie itself.
        let missing = COOKIES.saturating_sub(self.cookies.len()).saturating_sub(1);
        identify(request, identifier, &cookie, missing);
        let tag = self.to_server.seal(&[request, nonce], &[]);
        put_authenticator(request, nonce, &tag);
        self.asked = Some(Asked { identifier: *identifier, cookie });
        true
    }

    /// Takes the last request back, which never left this machine: its cookie stays good.
    pub(crate) fn unsent(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.cookies.insert(0, asked.cookie);
        }
    }

    /// Judges a packet, and keeps the cookies that an authentic one brings. Each request has one answer: what comes
    /// again is foreign.
    pub(crate) fn open(&mut self, packet: &[u8]) -> Verdict {
        let answer = Answer::parse(packet);
        let Some(asked) = &self.asked else { return Verdict::Foreign };
        if answer.identifier != asked.identifier {
            return Verdict::Foreign;
        }
        let Some(sealed) = answer.sealed else {
            let nak = Packet::decode(packet).and_then(|(header, _)| header.kiss()) == Some(Kiss::NtsNak);
            return if nak { Verdict::Nak } else { Verdict::Foreign };
        };
        let Some(text) = self.to_client.open(&[sealed.covered, sealed.nonce], sealed.ciphertext) else {
            return Verdict::Foreign;
        };
        self.asked = None;
        for cookie in cookies(text) {
            if self.cookies.len() < COOKIES {
                self.cookies.push(cookie);
            }
        }
        Verdict::Authentic
    }

    /// Takes cookies out for the time after a restart, once there are enough. They are never used before.
    pub(crate) fn reserve(&mut self) -> Option<Session> {
        if self.cookies.len() < COOKIES {
            return None;
        }
        let cookies = self.cookies.split_off(COOKIES - RESERVE);
        Some(Self::new(self.to_server.clone(), self.to_client.clone(), cookies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::ntp::{HEADER, Timestamp, put};

    fn session(cookies: u8) -> Session {
        let cookies = (0..cookies).map(|number| vec![number; 100]).collect();
        Session::new(Key([1; 32]), Key([2; 32]), cookies)
    }

    fn request(session: &mut Session, random: u8) -> Option<Vec<u8>> {
        let mut packet = Packet::request(Timestamp(7)).encode().to_vec();
        session.seal(&mut packet, &[random; RANDOM]).then_some(packet)
    }

    /// What a server makes of a request: as many cookies as the request has fields for them.
    fn answer(request: &[u8], key: u8) -> Vec<u8> {
        let asked = Answer::parse(request);
        let sealed = asked.sealed.unwrap();
        assert_eq!(Key([1; 32]).open(&[sealed.covered, sealed.nonce], sealed.ciphertext), Some(Vec::new()));
        let fields = sealed.covered.len() - HEADER - 36;
        let mut text = Vec::new();
        (0..fields / 104).for_each(|_| assert!(put(&mut text, 0x0204, &[9; 100], 16)));
        let mut packet = Packet { version: 4, mode: 4, stratum: 1, ..Packet::default() }.encode().to_vec();
        put(&mut packet, 0x0104, asked.identifier, 16);
        let sealed = Key([key; 32]).seal(&[&packet, &[3; NONCE]], &text);
        let lengths = [0, NONCE as u8, (sealed.len() >> 8) as u8, sealed.len() as u8];
        put(&mut packet, 0x0404, &[&lengths[..], &[3; NONCE], &sealed].concat(), 16);
        packet
    }

    #[test]
    fn cookies_are_used_once_and_refilled() {
        let mut session = session(8);
        // Two requests are lost.
        for random in 0..2 {
            assert!(request(&mut session, random).is_some());
        }
        let third = request(&mut session, 3).unwrap();
        assert_eq!(third.len(), HEADER + 36 + 3 * 104 + 40);
        assert_eq!(session.cookies.len(), 5);
        let answered = answer(&third, 2);
        assert!(answered.len() <= third.len());
        assert_eq!(session.open(&answered), Verdict::Authentic);
        assert_eq!(session.cookies.len(), 8);
        // The oldest are taken first, and none comes twice.
        let mut seen = Vec::new();
        while let Some(packet) = request(&mut session, 9) {
            seen.push(packet[HEADER + 36 + 4]);
        }
        assert_eq!(seen, [3, 4, 5, 6, 7, 9, 9, 9]);
        let mut packet = vec![0; HEADER];
        assert!(!session.seal(&mut packet, &[0; RANDOM]));
        assert_eq!(packet, [0; HEADER]);
    }

    #[test]
    fn what_was_not_sent_costs_no_cookie() {
        let mut session = session(2);
        let first = request(&mut session, 1).unwrap();
        session.unsent();
        session.unsent();
        assert_eq!(session.cookies.len(), 2);
        assert_eq!(session.open(&answer(&first, 2)), Verdict::Foreign);
        assert_eq!(request(&mut session, 1).unwrap(), first);
    }

    #[test]
    fn only_the_servers_own_answer_counts_and_only_once() {
        let mut session = session(8);
        let old = request(&mut session, 1).unwrap();
        let asked = request(&mut session, 2).unwrap();
        let good = answer(&asked, 2);
        assert_eq!(session.open(&answer(&old, 2)), Verdict::Foreign);
        assert_eq!(session.open(&answer(&asked, 3)), Verdict::Foreign);
        // Not authenticated: the header alone, or with the identifier.
        assert_eq!(session.open(&good[..HEADER]), Verdict::Foreign);
        assert_eq!(session.open(&good[..HEADER + 36]), Verdict::Foreign);
        for at in 0..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 0x10;
            assert_eq!(session.open(&forged), Verdict::Foreign, "{at}");
            assert_eq!(session.open(&good[..at]), Verdict::Foreign, "{at}");
        }
        assert_eq!(session.open(&good), Verdict::Authentic);
        assert_eq!(session.open(&good), Verdict::Foreign);
    }

    #[test]
    fn a_nak_needs_the_identifier() {
        let mut session = session(8);
        let asked = request(&mut session, 1).unwrap();
        let mut nak = Packet { version: 4, mode: 4, refid: *b"NTSN", ..Packet::default() }.encode().to_vec();
        assert_eq!(session.open(&nak), Verdict::Foreign);
        put(&mut nak, 0x0104, &[1; IDENTIFIER], 16);
        assert_eq!(session.open(&nak), Verdict::Nak);
        nak[12] = b'X';
        assert_eq!(session.open(&nak), Verdict::Foreign);
        // The true answer may still come.
        assert_eq!(session.open(&answer(&asked, 2)), Verdict::Authentic);
    }

    #[test]
    fn a_reserve_is_taken_from_a_full_session_only() {
        let mut session = session(7);
        assert_eq!(session.reserve(), None);
        session.cookies.push(vec![7; 100]);
        let reserve = session.reserve().unwrap();
        assert_eq!((session.cookies.len(), reserve.cookies.len()), (5, 3));
        assert!(reserve.cookies.iter().all(|cookie| !session.cookies.contains(cookie)));
    }

    /// A request of ours that chronyd 4.3 answered, and the answer.
    const REQUEST: &str = "230000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 \
     00000701040024564d7f5c9b2019f6069dd31e08f479b7b18e07eab03ff0c119bd92f191a174e70204006861ec \
     324bf702458dabf9e97676cd306e41d0ef70f5b3647c22d580e4f3fdfa64ce971e2516ca60313808c87399193e \
     bb5e84a672f5d5b3d3f1da695a5f5e98da4cc35def0fa3ec672a3cd2a6b1902d044a621ef70a919977aff03e12 \
     81aaf8535482950603040068000000000000000000000000000000000000000000000000000000000000000000 \
     000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 \
     000000000000000000000000000000000000000000000404002800100010bd685d6e8278271d68362c21d5da8b \
     3ad0b6785b81ae871d40658491ad51f21d";
    const ANSWER: &str = "240300e600000000000000007f7f0101eeabeed1daa461f00000000000000007eeabeed3b5dfb72beeabeed3b5 \
     e2da6801040024564d7f5c9b2019f6069dd31e08f479b7b18e07eab03ff0c119bd92f191a174e7040400f80010 \
     00e02ab4d9411e7523f04e7aa83ac69adc31c39fe216b7091b44694a57e377d08e392a82e78857dc8a2c4224c9 \
     e57718734f026758aea0da3d1b9bdacc2c970e76b6325ca4fbe5ed9688f064200ea88f32ae0ea3ddb77478ad48 \
     8aca38783d92102c26cec4f549c1e9ca08c96e1bb491c16b9d216a5b6e5d7fa611bfd902f9e7d08736bc5b24d9 \
     d337aec42a5d3fafb8f91898b05ea5267fc35901dd2c817e5a7446a958798366f53ff66f4d186081bc84d83546 \
     e5c266df43d00b122e77486b8621416468c562dcf0a37390d7ae5dbaf17921b39d6a559752dc0967bb3325a07c \
     a6729edee9874fc98b08024b2dfc6277ab";
    const TO_SERVER: &str = "2daefe2044a81da683b02f6307964e6064b9ba6e9ec30880055511c2e92391e9";
    const TO_CLIENT: &str = "4e85a448e86fa8d8ccfc80d518f050503ce268c53634ff38f4af3adbcc121f4b";

    fn bytes(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn a_captured_exchange() {
        let (wanted, answer) = (bytes(REQUEST), bytes(ANSWER));
        let key = |text| Key(bytes(text).try_into().unwrap());
        let cookies = (0..7).map(|_| wanted[HEADER + 40..HEADER + 140].to_vec()).collect();
        let mut session = Session::new(key(TO_SERVER), key(TO_CLIENT), cookies);
        let random =
            [&wanted[HEADER + 4..HEADER + 36], &wanted[wanted.len() - 32..wanted.len() - 16]].concat();
        let mut request = wanted[..HEADER].to_vec();
        assert!(session.seal(&mut request, &random.try_into().unwrap()));
        assert_eq!(request, wanted);
        let mut state = 5u64;
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut forged = answer.clone();
            forged[(state >> 33) as usize % answer.len()] ^= 1 << (state >> 20 & 7);
            forged.truncate(if state & 1 == 0 {
                answer.len()
            } else {
                (state >> 40) as usize % answer.len()
            });
            assert_eq!(session.open(&forged), Verdict::Foreign);
        }
        assert_eq!(session.open(&answer), Verdict::Authentic);
        assert_eq!(session.cookies.len(), 8);
    }
}
