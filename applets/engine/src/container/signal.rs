//! Signals by name or number.

/// Names without `SIG` of the numbers from 1, of Linux on ARM and x86 (signal(7)).
const NAMES: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT \
    STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`. `None` for anything else.
pub fn by_name(text: &str) -> Option<i32> {
    if let Some(number) = minke_wire::text::number::<i32>(text) {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = short.strip_prefix("RTMIN+") {
        let offset: u8 = minke_wire::text::number(offset)?;
        return (offset <= 30).then_some(i32::from(offset).saturating_add(34));
    }
    let index = NAMES.split(' ').position(|name| name == short)?;
    i32::try_from(index).ok()?.checked_add(1)
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
