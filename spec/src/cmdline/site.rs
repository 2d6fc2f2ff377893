//! The same keys in a file: of a site bundle, or behind `ironhook.config`. One `key=value` a line, `#` begins a
//! comment line. Unlike a command line it is nobody else's, so everything that is not understood is an error.

use super::{EARLY, Key, key};

/// In a site bundle.
pub const PATH: &str = "/etc/ironhook/site.conf";
/// A longer file is none of ours.
pub const LARGEST: usize = 64 << 10;

/// A line that cannot be obeyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong, without the value of a secret.
    pub what: String,
}

/// Keys and values, or all mistakes. `remote` is a file that came over the network: it cannot say what is needed before.
pub fn parse(text: &str, remote: bool) -> Result<Vec<(&'static Key, String)>, Vec<Mistake>> {
    let (mut found, mut mistakes) = (Vec::<(&'static Key, String)>::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty() && !text.starts_with('#')) {
        match entry(text, remote) {
            Ok((key, _)) if found.iter().any(|(other, _)| other.name == key.name) => {
                mistakes.push(Mistake { line, what: format!("{}: given a second time", key.name) });
            }
            Ok((key, value)) => found.push((key, value.to_owned())),
            Err(what) => mistakes.push(Mistake { line, what }),
        }
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

fn entry(text: &str, remote: bool) -> Result<(&'static Key, &str), String> {
    let (name, value) = text.split_once('=').ok_or("expected key=value, or # for a comment")?;
    let (name, value) = (name.trim(), value.trim());
    let key = key(name).ok_or_else(|| format!("{name:?} is not a key (docs/command-line.md lists them)"))?;
    if value.is_empty() {
        return Err(format!("{name}: has no value"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("{name}: the value has a control character"));
    }
    if remote && EARLY.iter().any(|early| early.name == key.name) {
        return Err(format!("{name}: is needed before there is a network; say it on the command line or in {PATH}"));
    }
    match super::parse::misfit(key, value) {
        Some(what) => Err(format!("{name}: {what}")),
        None => Ok((key, value)),
    }
}

/// The file of keys and values; the inverse of [`parse`].
pub fn render<'a>(entries: impl IntoIterator<Item = (&'static Key, &'a str)>) -> String {
    entries.into_iter().map(|(key, value)| format!("{}={value}\n", key.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read_and_values_may_have_spaces() {
        let found = parse("# site\n\nfacility = onprem rack 7 \nNO_PROXY=a,b\n", false).unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.name, value.as_str())).collect();
        assert_eq!(found, [("facility", "onprem rack 7"), ("NO_PROXY", "a,b")]);
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "facility\nfacilty=a\nhw_addr=zz\nsyslog_port=\nvlan_id=3\nfacility=a\nfacility=b\nregistry_password='hunter2";
        let mistakes = parse(text, true).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(|m| format!("{}: {}", m.line, m.what)).collect();
        assert_eq!(
            told,
            [
                "1: expected key=value, or # for a comment",
                "2: \"facilty\" is not a key (docs/command-line.md lists them)",
                "3: hw_addr: is needed before there is a network; say it on the command line or in /etc/ironhook/site.conf",
                "4: syslog_port: has no value",
                "5: vlan_id: is needed before there is a network; say it on the command line or in /etc/ironhook/site.conf",
                "7: facility: given a second time",
                "8: registry_password: \"***\" is not text without quotes (they would be part of the value: no loader removes them)",
            ]
        );
        assert_eq!(parse("vlan_id=3", false).unwrap()[0].0.name, VLAN_ID.name);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s).{0,300}") {
            let _ = parse(&text, true);
        }

        #[test]
        fn what_is_parsed_is_rendered_back(values in proptest::collection::vec("[a-z][ -~]{0,18}[a-z]", 3)) {
            let entries: Vec<_> = [&FACILITY, &WORKER_ID, &REGISTRY_PASSWORD].into_iter().zip(values.iter().map(String::as_str)).collect();
            let read = parse(&render(entries.clone()), true).unwrap();
            let read: Vec<_> = read.iter().map(|(key, value)| (key.name, value.as_str())).collect();
            prop_assert_eq!(read, entries.into_iter().map(|(key, value)| (key.name, value)).collect::<Vec<_>>());
        }
    }
}
