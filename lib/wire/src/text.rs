//! A text in a text. std's search is made for long texts, and comes with 300 bytes of code to every place of use;
//! here the texts are names, options and lines.

/// Where `part` first stands in `text`.
#[inline(never)]
pub fn find(text: &str, part: &str) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.as_bytes().windows(part.len()).position(|window| window == part.as_bytes())
}

/// Whether `part` stands in `text`.
pub fn contains(text: &str, part: &str) -> bool {
    find(text, part).is_some()
}

/// Whether `character` is one of those of `set`.
#[inline(never)]
pub fn is_one_of(character: char, set: &str) -> bool {
    set.chars().any(|one| one == character)
}

/// `text` as it can stand in a message: what is not a graphic character of ASCII becomes `?`.
pub fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' }).collect()
}

/// The whole decimal number that `text` is, when it fits. One reader of digits for all types, where std has one each.
pub fn number<T: TryFrom<i64>>(text: &str) -> Option<T> {
    T::try_from(signed(text)?).ok()
}

#[inline(never)]
fn signed(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let number = crate::number(digits, 10)?;
    if negative { 0i64.checked_sub_unsigned(number) } else { number.try_into().ok() }
}

/// The whole number without sign that `text` is in digits of this base, at most 16, when it fits.
pub fn in_base<T: TryFrom<u64>>(text: &str, base: u8) -> Option<T> {
    T::try_from(crate::number(text.as_bytes(), base)?).ok()
}

/// What stands before and after the first `separator` in `text`.
#[inline(never)]
pub fn split_once<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (before, rest) = text.split_at_checked(find(text, separator)?)?;
    Some((before, rest.get(separator.len()..)?))
}

/// `text` with each `part`, which is not empty, replaced.
#[inline(never)]
pub fn replace(text: &str, part: &str, by: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = split_once(rest, part) {
        out.push_str(before);
        out.push_str(by);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_std_reads_them() {
        for text in
            ["", "0", "-0", "+7", "-+7", "--7", "7-", " 7", "255", "256", "-1", "65535", "65536", "007"]
        {
            assert_eq!(number::<u8>(text), text.parse().ok().or((text == "-0").then_some(0)), "{text}");
            assert_eq!(number::<u16>(text), text.parse().ok().or((text == "-0").then_some(0)), "{text}");
            assert_eq!(number::<i64>(text), text.parse().ok(), "{text}");
        }
        for text in
            ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "99999999999999999999"]
        {
            assert_eq!(number::<i64>(text), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn numbers_of_other_bases_as_std_reads_them() {
        for text in
            ["", "0", "17", "18", "fF", "100", "g", "@", "`", "G", "/", ":", "ffffffffffffffff", "1_0"]
        {
            for base in [8, 10, 16] {
                let (byte, long) = (u8::from_str_radix(text, base), u64::from_str_radix(text, base));
                assert_eq!(in_base::<u8>(text, base as u8), byte.ok(), "{text}");
                assert_eq!(in_base::<u64>(text, base as u8), long.ok(), "{text}");
            }
        }
        assert_eq!(in_base::<u8>("+7", 10), None);
    }

    #[test]
    fn as_std_does_it() {
        for text in ["", "a", "ab", "abab", "aab", "äöü", "öab ö", "a;;b;;", ";;"] {
            for part in ["a", "ab", "ö", ";;", "ab "] {
                assert_eq!(find(text, part), text.find(part), "{text} {part}");
                assert_eq!(split_once(text, part), text.split_once(part), "{text} {part}");
                assert_eq!(replace(text, part, "#"), text.replace(part, "#"), "{text} {part}");
            }
            assert!(contains(text, ""));
            assert_eq!(is_one_of('ö', text), text.contains('ö'));
        }
    }
}
