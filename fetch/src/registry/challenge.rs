//! What a registry says when it wants to know who asks (RFC 9110 §11.6.1): `Basic`, or `Bearer` with the place where
//! tokens are given out. Pure.

/// How to authenticate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from elsewhere.
    Bearer {
        /// Who gives it out.
        realm: String,
        /// For whom.
        service: Option<String>,
    },
}

/// The first challenge that we can answer; a token is preferred.
pub(crate) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let parameters = parameters(rest);
            let value =
                |name: &str| parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
            if let Some(realm) = value("realm") {
                return Some(Challenge::Bearer { realm, service: value("service") });
            }
        }
    }
    basic
}

/// `name="value"` or `name=value`, separated by commas; a backslash in quotes takes the next character as it is.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let mut value = String::new();
        let after = after.trim_start();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, character)| character)),
                    other => value.push(other),
                }
            }
            rest = &quoted[end..];
        } else {
            let end = after.find(',').unwrap_or(after.len());
            after[..end].trim().clone_into(&mut value);
            rest = &after[end..];
        }
        found.push((name, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
    }

    #[test]
    fn the_registries_of_the_field_are_understood() {
        let parse = |text| parse([text].into_iter());
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c:pull""#;
        assert_eq!(parse(hub), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(parse("bearer realm=https://r/t"), bearer("https://r/t", None));
        assert_eq!(parse(r#"Bearer scope="x=1, y", realm="a\"b""#), bearer("a\"b", None));
        assert_eq!(parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse("Bearer service=x"), None);
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        assert_eq!(parse(["Basic", "Bearer realm=r"].into_iter()), bearer("r", None));
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_its_end(text in "\\PC*") {
            let _ = parse([text.as_str()].into_iter());
        }
    }
}
