//! Image references (spec supervisor §0.6): `[registry/]name[:tag][@digest]`.

use crate::values::is_made_of;

/// Normalises a reference: with a digest the tag is dropped, without one the tag is always there. `None`: not
/// a reference.
pub fn normalise(text: &str) -> Option<String> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A colon after the last slash starts the tag; one before it belongs to the registry's port.
    let slash = name.rfind('/').map_or(0, |place| place.saturating_add(1));
    let (path, tag) = match name.get(slash..)?.find(':') {
        Some(colon) => {
            let (path, tag) = name.split_at_checked(slash.checked_add(colon)?)?;
            (path, Some(tag.strip_prefix(':')?))
        }
        None => (name, None),
    };
    let path_ok = is_made_of(path, "._-/:[]") && path.split('/').all(|part| !part.is_empty());
    let tag_ok = tag.is_none_or(|tag| tag.len() <= 128 && is_made_of(tag, "._-"));
    if !path_ok || !tag_ok || text.len() > 255 {
        return None;
    }
    match digest {
        Some(digest) => is_digest(digest).then(|| format!("{path}@{digest}")),
        None => Some(format!("{path}:{}", tag.unwrap_or("latest"))),
    }
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        is_made_of(algorithm, "+._-") && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, wanted) in [
            ("busybox", "busybox:latest".to_owned()),
            ("busybox:1", "busybox:1".to_owned()),
            ("reg.io:5000/a/b", "reg.io:5000/a/b:latest".to_owned()),
            ("localhost/a:t", "localhost/a:t".to_owned()),
            (&format!("r.io/v2/a:t@{digest}"), format!("r.io/v2/a@{digest}")),
        ] {
            assert_eq!(normalise(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference() {
        for text in ["", ":t", "a:", "a//b", "/a", "a b", "a@sha256:12", "a@x", "a:b c", "a:t/", "@sha256:1"]
        {
            assert_eq!(normalise(text), None, "{text}");
        }
        assert_eq!(normalise(&"a".repeat(256)), None);
    }
}
