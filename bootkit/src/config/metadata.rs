//! What an answer of a metadata service means. Pure. It is believed for as little as possible: see `FROM_METADATA`.

use serde_json::Value;
use spec::cmdline::{Cmdline, FROM_METADATA, Key, Origin, key};

/// Nobody's ids are so long; pages of errors are.
const LONGEST_ID: usize = 256;

/// What was found in an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The classic id of the machine.
    pub id: Option<String>,
    /// Authorities for registries, PEM.
    pub authorities: Option<String>,
    /// What was not obeyed, for a person.
    pub told: Vec<String>,
}

/// An id that stands alone, as the EC2 tree has it.
pub fn id(text: &str) -> Option<String> {
    let text = text.trim();
    let usable = !text.is_empty() && text.len() <= LONGEST_ID && !text.contains(|c: char| c.is_control() || c == '<');
    usable.then(|| text.to_owned())
}

/// Adds what may come from metadata. An answer that is no JSON object is an error in words.
pub fn obey(text: &str, line: &mut Cmdline) -> Result<Found, String> {
    let answer: Value = serde_json::from_str(text).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let answer = answer.as_object().ok_or("the answer is not a JSON object")?;
    let id = answer.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut found = Found { id, ..Found::default() };
    let Some(ours) = answer.get("ironhook").filter(|ours| !ours.is_null()) else { return Ok(found) };
    let ours = ours.as_object().ok_or("`ironhook` is not an object")?;
    for (name, value) in ours {
        let Some(value) = value.as_str() else {
            found.told.push(format!("metadata: {name}: is not a string, so it is not obeyed"));
            continue;
        };
        if name == "ca" {
            found.authorities = Some(value.to_owned()).filter(|pem| !pem.is_empty());
            continue;
        }
        match allowed(name, value) {
            Ok(key) => line.add(Origin::Metadata, key, value),
            Err(why) => found.told.push(format!("metadata: {name}: {why}, so it is not obeyed")),
        }
    }
    Ok(found)
}

fn allowed(name: &str, value: &str) -> Result<&'static Key, &'static str> {
    let key = key(name).ok_or("is not a key")?;
    match FROM_METADATA.iter().any(|allowed| allowed.name == key.name) {
        false => Err("metadata has no say in this"),
        true if value.is_empty() || value.chars().any(char::is_control) || !key.kind.fits(value) => {
            Err("the value is malformed")
        }
        true => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use spec::cmdline::{GRPC_AUTHORITY, REGISTRY_PASSWORD, REGISTRY_USERNAME};

    #[test]
    fn credentials_are_filled_in_and_nothing_is_overridden_or_redirected() {
        let mut line = Cmdline::parse("registry_username=line");
        let text = r#"{"id": "i-1", "metadata": {}, "ironhook": {"registry_username": "meta", "registry_password": "hunter2",
            "grpc_authority": "evil:1", "insecure_registries": "evil", "tinkerbell_tls": "false", "typo": "x", "syslog_port": 5,
            "ca": "PEM", "HTTP_PROXY": "a\nb"}}"#;
        let found = obey(text, &mut line).unwrap();
        assert_eq!((found.id.as_deref(), found.authorities.as_deref()), (Some("i-1"), Some("PEM")));
        assert_eq!(line.get(&REGISTRY_USERNAME), Some("line"));
        assert_eq!(line.get(&REGISTRY_PASSWORD), Some("hunter2"));
        assert_eq!(line.get(&GRPC_AUTHORITY), None);
        assert_eq!(
            found.told,
            [
                "metadata: HTTP_PROXY: the value is malformed, so it is not obeyed",
                "metadata: grpc_authority: metadata has no say in this, so it is not obeyed",
                "metadata: insecure_registries: metadata has no say in this, so it is not obeyed",
                "metadata: syslog_port: is not a string, so it is not obeyed",
                "metadata: tinkerbell_tls: metadata has no say in this, so it is not obeyed",
                "metadata: typo: is not a key, so it is not obeyed",
            ]
        );
    }

    #[test]
    fn an_id_that_stands_alone_is_one_line() {
        assert_eq!(id("i-0eba0bf8\n").as_deref(), Some("i-0eba0bf8"));
        for text in ["", "\n", "a\nb", "<html>", &"x".repeat(300)] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn answers_of_the_field_say_nothing_more_than_an_id() {
        for (text, id) in [
            (r#"{"metadata":{"instance":{"storage":{"disks":[]}}}}"#, None),
            (r#"{"id":"0eba0bf8","network":{"interfaces":[]},"metadata":"{}"}"#, Some("0eba0bf8")),
        ] {
            let mut line = Cmdline::default();
            assert_eq!(obey(text, &mut line).unwrap(), Found { id: id.map(str::to_owned), ..Found::default() });
            assert_eq!(line, Cmdline::default());
        }
        for text in ["", "[]", "<html>", r#"{"ironhook": []}"#] {
            assert!(obey(text, &mut Cmdline::default()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in "(?s).{0,200}") {
            let _ = obey(&text, &mut Cmdline::default());
        }
    }
}
