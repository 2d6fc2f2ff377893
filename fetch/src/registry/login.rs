//! From a challenge to the header that answers it: the password itself, or a token fetched with it. A password goes
//! over plain HTTP only where the registry itself was named as plain.

use std::io::Read;

use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::challenge::Challenge;
use super::model::Token;
use super::{Credential, Error, Reference};
use crate::backoff::Backoff;
use crate::body;
use crate::client::Client;

/// The longest answer of a token service.
const TOKEN: u64 = 256 << 10;

/// The header's value; nothing when there is nothing to say or it was refused.
pub(crate) fn authorization(
    challenge: &Challenge,
    credential: Option<&Credential>,
    client: &Client,
    reference: &Reference,
) -> Result<Option<HeaderValue>, Error> {
    let Challenge::Bearer { realm, service } = challenge else { return Ok(credential.and_then(basic)) };
    let odd = || Error::Challenge { host: reference.host().to_owned(), challenge: crate::redacted(realm) };
    let mut url = Url::parse(realm).map_err(|_| odd())?;
    if url.scheme() != "https" && !(url.scheme() == "http" && client.is_plain()) {
        return Err(odd());
    }
    url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", reference.path()));
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    let headers = HeaderMap::from_iter(credential.and_then(basic).map(|value| (AUTHORIZATION, value)));
    let client = client.elsewhere(url, headers);
    let response = body::answer(&client, &mut Backoff::new(client.options.patience))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
        status => return Err(crate::Error::Status { url: client.shown(), status: status.as_u16() }.into()),
    }
    let mut bytes = Vec::new();
    let shown = client.shown();
    let cannot = |source: std::io::Error| crate::Error::Connect { url: shown, source: source.into() };
    body::start(client, response).reader.take(TOKEN).read_to_end(&mut bytes).map_err(cannot)?;
    let malformed = |source| Error::Malformed { what: "the token", reference: reference.to_string(), source };
    let token: Token = serde_json::from_slice(&bytes).map_err(malformed)?;
    let text = if token.token.is_empty() { token.access_token } else { token.token };
    Ok(secret(&format!("Bearer {text}")).filter(|_| !text.is_empty()))
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    secret(&format!("Basic {}", base64(format!("{}:{}", credential.user, credential.password.expose()).as_bytes())))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, at| number << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

/// The reverse; nothing for a text that is none.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut number, mut bits) = (0u32, 0);
    for character in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == character)?;
        number = number << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc_both_ways() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(from_base64("a b"), None);
    }

    #[test]
    fn a_header_with_a_password_does_not_show_it() {
        let credential = Credential { host: "r".into(), user: "me".into(), password: spec::Secret::new("hunter2") };
        let shown = format!("{:?}", basic(&credential));
        assert!(!shown.contains("hunter2") && !shown.contains(&base64(b"me:hunter2")), "{shown}");
    }
}
