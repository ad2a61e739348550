//! Where the device asks whether it is online, and what time it is (spec os §4.3, §5.5.1, §11.3).

use crate::Config;

/// The URI of the connectivity check: `os.network.connectivity.uri`, else `<apiEndpoint>/connectivity-check`. `None`
/// when there is neither, when the owner wants none (`null`), and for a text with control characters.
pub fn connectivity_uri(config: &Config) -> Option<String> {
    let uri = match config.string("os.network.connectivity.uri") {
        Some(uri) => uri.to_owned(),
        None => format!("{}/connectivity-check", config.string("apiEndpoint")?.trim_end_matches('/')),
    };
    (uri != "null" && !uri.bytes().any(|byte| byte.is_ascii_control())).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_s_then_the_cloud_s() {
        let uri = |text: &str| connectivity_uri(&Config::parse(text.as_bytes()).unwrap());
        assert_eq!(uri("{}"), None);
        assert_eq!(uri(r#"{"apiEndpoint":"https://a/"}"#).unwrap(), "https://a/connectivity-check");
        let own = |uri: &str| {
            format!(r#"{{"apiEndpoint":"https://a","os":{{"network":{{"connectivity":{{"uri":{uri}}}}}}}}}"#)
        };
        assert_eq!(uri(&own(r#""http://b/x""#)).unwrap(), "http://b/x");
        assert_eq!(uri(&own(r#""""#)).unwrap(), "https://a/connectivity-check");
        assert_eq!(uri(&own("null")).unwrap(), "https://a/connectivity-check");
        for none in [r#""null""#, r#""http://b\n[main]""#] {
            assert_eq!(uri(&own(none)), None, "{none}");
        }
    }
}
