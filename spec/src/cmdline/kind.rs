//! What a value has to look like, and the words for one that does not.

use crate::mac::Mac;

/// What a value has to look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false` in any of Go's spellings (wire reference §1).
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `host:port`.
    Authority,
    /// A MAC address.
    Mac,
    /// An absolute http or https URL.
    Url,
    /// A URL with `#sha256:<64 hexadecimal digits>` at its end, which is required or not.
    Seal(bool),
    /// A URL, or `host:port`.
    Proxy,
    /// Items separated by commas.
    List,
    /// A decimal number.
    Number,
    /// 1 to 65535.
    Port,
}

impl Kind {
    /// Whether a value, not empty, is of this kind.
    pub fn fits(self, value: &str) -> bool {
        match self {
            Self::Text | Self::List => !value.starts_with(['"', '\'']),
            Self::Bool => parse_bool(value).is_some(),
            Self::Choice(words) => words.contains(&value),
            Self::Mac => value.parse::<Mac>().is_ok(),
            Self::Number => value.parse::<u32>().is_ok(),
            Self::Port => value.parse::<u16>().is_ok_and(|port| port > 0),
            Self::Url => is_url(value),
            Self::Seal(required) => match unseal(value) {
                Some((url, digest)) => is_url(url) && (digest.is_some() || !required),
                None => false,
            },
            Self::Proxy => {
                ["http://", "https://", "socks5://"].iter().any(|s| value.len() > s.len() && value.starts_with(s))
                    || is_authority(value)
            }
            Self::Authority => is_authority(value),
        }
    }

    /// For a message: what was expected.
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::List => {
                "text without quotes (they would be part of the value: no loader removes them)".into()
            }
            Self::Bool => "true or false".into(),
            Self::Choice(words) => words.join(" or "),
            Self::Authority => "host:port".into(),
            Self::Mac => "a MAC address".into(),
            Self::Url => "an http or https URL".into(),
            Self::Seal(true) => "an http or https URL that ends in #sha256: and 64 hexadecimal digits".into(),
            Self::Seal(false) => {
                "an http or https URL, alone or with #sha256: and 64 hexadecimal digits at its end".into()
            }
            Self::Proxy => "a URL or host:port".into(),
            Self::Number => "a number".into(),
            Self::Port => "a port number".into(),
        }
    }

    /// For the manual.
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Bool => "boolean".into(),
            Self::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Self::Authority => "`host:port`".into(),
            Self::Mac => "MAC address".into(),
            Self::Url => "URL".into(),
            Self::Seal(true) => "URL with digest".into(),
            Self::Seal(false) => "URL, digest optional".into(),
            Self::Proxy => "URL or `host:port`".into(),
            Self::List => "list, by commas".into(),
            Self::Number => "number".into(),
            Self::Port => "port".into(),
        }
    }
}

/// Go's `strconv.ParseBool`, which every stock component uses.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Splits `url#sha256:<hex>`; none if what follows the `#` is no digest.
pub fn unseal(value: &str) -> Option<(&str, Option<&str>)> {
    let Some((url, fragment)) = value.split_once('#') else { return Some((value, None)) };
    let digest = fragment.strip_prefix("sha256:")?;
    let hex = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex.then_some((url, Some(digest)))
}

fn is_url(value: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| value.len() > scheme.len() && value.starts_with(scheme))
}

fn is_authority(value: &str) -> bool {
    value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_whole_or_refused() {
        let hex = "0123456789abcdef".repeat(4);
        let sealed = format!("http://a/b#sha256:{hex}");
        assert_eq!(unseal(&sealed), Some(("http://a/b", Some(hex.as_str()))));
        assert_eq!(unseal("http://a/b"), Some(("http://a/b", None)));
        for bad in [
            "http://a/b#",
            "http://a/b#sha256:00",
            "http://a/b#md5:00",
            &format!("http://a/b#sha256:{}", hex.to_uppercase()),
        ] {
            assert_eq!(unseal(bad), None, "{bad}");
            assert!(!Kind::Seal(false).fits(bad));
        }
        assert!(
            Kind::Seal(true).fits(&sealed)
                && !Kind::Seal(true).fits("http://a/b")
                && Kind::Seal(false).fits("http://a/b")
        );
    }

    #[test]
    fn a_proxy_may_come_without_a_scheme_as_go_takes_it() {
        for (value, fits) in
            [("http://p:1", true), ("p:3128", true), ("socks5://p:1", true), ("p", false), ("ftp://p:1", false)]
        {
            assert_eq!(Kind::Proxy.fits(value), fits, "{value}");
        }
    }
}
