//! sprig's encodings and digests, and Tinkerbell's YAML.

use std::fmt::Write as _;

use gotmpl::{TemplateError, Value, to_value};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{Function, failed, ok, text};
use crate::yaml;

pub(super) const TABLE: &[Function] = &[
    ("b64enc", 1, |a| ok(base64(text(&a[0]).as_bytes()))),
    ("b64dec", 1, |a| {
        let bytes = unbase64(&text(&a[0])).ok_or_else(|| failed("b64dec: not base64"))?;
        ok(String::from_utf8(bytes).map_err(|_| failed("b64dec: not UTF-8 text"))?)
    }),
    ("sha256sum", 1, |a| {
        let digest = Sha256::digest(text(&a[0]).as_bytes());
        ok(digest.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }),
    ("toJson", 1, |a| ok(json(&a[0])?.to_string())),
    ("toYaml", 1, |a| {
        let yaml = serde_saphyr::to_string(&json(&a[0])?).map_err(|e| failed(format!("toYaml: {e}")))?;
        ok(yaml.trim_end_matches('\n'))
    }),
    ("fromYaml", 1, |a| {
        let parsed: Json = yaml::one(&text(&a[0])).map_err(|p| failed(format!("fromYaml: {}", p.message)))?;
        to_value(&parsed)
    }),
];

fn json(value: &Value) -> Result<Json, TemplateError> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_ref()),
        Value::List(list) => Json::Array(list.iter().map(json).collect::<Result<_, _>>()?),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(k, v)| Ok((k.to_string(), json(v)?))).collect::<Result<_, TemplateError>>()?)
        }
        Value::Function(_) => return Err(failed("a function cannot be written down")),
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let six = (group >> (18 - 6 * n)) & 63;
            out.push(if n <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    out
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let body = digits.strip_suffix(b"==").or_else(|| digits.strip_suffix(b"=")).unwrap_or(&digits);
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() * 3 / 4);
    for chunk in body.chunks(4) {
        let mut group = 0u32;
        for byte in chunk {
            group = group << 6 | u32::try_from(ALPHABET.iter().position(|c| c == byte)?).ok()?;
        }
        let bytes = (group << (6 * (4 - chunk.len()))).to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(unbase64("Zg="), None);
        assert_eq!(unbase64("Z!=="), None);
    }

    proptest! {
        #[test]
        fn base64_round_trips(bytes: Vec<u8>) {
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        }

        #[test]
        fn unbase64_never_panics(text in ".*") {
            let _ = unbase64(&text);
        }
    }
}
