//! Signals by name or number.

/// Names without `SIG`, with the numbers of Linux on ARM and x86 (signal(7)).
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`. `None` for anything else.
pub fn by_name(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = short.strip_prefix("RTMIN+") {
        return offset
            .parse::<u8>()
            .ok()
            .filter(|offset| *offset <= 30)
            .map(|offset| 34i32.saturating_add(offset.into()));
    }
    NAMES.iter().find(|(name, _)| *name == short).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::by_name;

    #[test]
    fn names_and_numbers() {
        assert_eq!(
            (by_name("SIGTERM"), by_name("int"), by_name("9"), by_name("SIGRTMIN+3")),
            (Some(15), Some(2), Some(9), Some(37))
        );
        for text in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99"] {
            assert_eq!(by_name(text), None, "{text}");
        }
    }
}
