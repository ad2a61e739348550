//! What is to be done for the registration, by `config.json` alone (spec supervisor §2.2.2, §2.2.3).

use minke_config::Config;

/// The keys that say which device of which cloud this is.
pub const IDENTITY: [&str; 3] = ["apiEndpoint", "uuid", "deviceApiKey"];

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the device belongs to no cloud, or to one that knows it.
    Done,
    /// The cloud is asked to make the device.
    Register,
    /// The cloud knows the device, and is to know the device's key in place of the fleet's.
    Exchange,
}

/// The next step.
pub fn next(config: &Config) -> Step {
    let has = |key| config.text(key).is_some();
    match (config.managed(), has("registered_at"), has("deviceId"), has("apiKey")) {
        (false, ..) | (true, true, true, false) => Step::Done,
        (true, false, ..) => Step::Register,
        (true, true, ..) => Step::Exchange,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_specification() {
        let members =
            [r#""apiEndpoint":"https://c""#, r#""registered_at":"1""#, r#""deviceId":5"#, r#""apiKey":"k""#];
        // A bit for each of the members that are there.
        let next = |bits: usize| {
            let there: Vec<_> = (0..4).filter(|bit| bits >> bit & 1 == 1).map(|bit| members[bit]).collect();
            next(&Config::parse(format!("{{{}}}", there.join(",")).as_bytes()).unwrap())
        };
        for unmanaged in [0b0000, 0b0010, 0b0110, 0b1000, 0b1110] {
            assert_eq!(next(unmanaged), Step::Done);
        }
        for fresh in [0b0001, 0b0101, 0b1001, 0b1101] {
            assert_eq!(next(fresh), Step::Register);
        }
        for known in [0b0011, 0b1011, 0b1111] {
            assert_eq!(next(known), Step::Exchange);
        }
        assert_eq!(next(0b0111), Step::Done);
    }
}
