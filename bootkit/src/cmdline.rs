//! `bootkit cmdline`: the first step of every boot says what the command line asks for and all that is wrong with it.
//! What a key does is decided by the service that obeys it; nothing here is guessed or mended.

use std::fs;
use std::io;
use std::path::Path;

use spec::cmdline::{
    BOOTIF, Cmdline, GRPC_AUTHORITY, HTTP_PROXY, HTTPS_PROXY, HW_ADDR, Key, Kind, LIMIT, LIMIT_EFI, NO_PROXY,
    TINKERBELL_INSECURE_TLS, TINKERBELL_TLS, VLAN_ID, key,
};

use crate::console::say;
use crate::network;

const PATH: &str = "/proc/cmdline";

/// Malformed, these would send the machine to the wrong place, or nowhere.
const VITAL: [&Key; 9] = [
    &GRPC_AUTHORITY,
    &TINKERBELL_TLS,
    &TINKERBELL_INSECURE_TLS,
    &HW_ADDR,
    &BOOTIF,
    &VLAN_ID,
    &HTTP_PROXY,
    &HTTPS_PROXY,
    &NO_PROXY,
];

/// The command line cannot be read, or not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum CmdlineError {
    /// No procfs, or not text.
    #[error("cannot read {PATH}")]
    Read(#[source] io::Error),
    /// All reasons have been printed.
    #[error("{0} of the problems above must be put right in what boots this machine (boot script, hardware, loader)")]
    Unusable(usize),
}

/// The command line and how long it was.
pub struct Line {
    /// Split and classified.
    pub fields: Cmdline,
    /// In bytes, without the end of the line.
    pub length: usize,
    /// Booted by EFI, whose stub cuts a little earlier.
    pub efi: bool,
}

/// Reads the line of the running kernel.
pub fn read() -> Result<Line, CmdlineError> {
    let text = fs::read_to_string(PATH).map_err(CmdlineError::Read)?;
    Ok(Line {
        length: text.trim_end_matches('\n').len(),
        fields: Cmdline::parse(&text),
        efi: Path::new("/sys/firmware/efi").exists(),
    })
}

/// Prints keys and problems; an error if the machine cannot be used like this.
pub fn report(line: &Line) -> Result<(), CmdlineError> {
    for text in describe(&line.fields) {
        say(text);
    }
    let (fatal, told) = judge(line);
    for text in told {
        say(format_args!("command line: {text}"));
    }
    for text in &fatal {
        say(format_args!("command line: ERROR: {text}"));
    }
    if fatal.is_empty() { Ok(()) } else { Err(CmdlineError::Unusable(fatal.len())) }
}

fn describe(line: &Cmdline) -> Vec<String> {
    let known = line.describe();
    let mut texts = vec![format!("command line: {} keys known, {} others", known.len(), line.unknown().len())];
    texts.extend(known.into_iter().map(|(name, value)| {
        let url = key(name).is_some_and(|key| matches!(key.kind, Kind::Url | Kind::Proxy | Kind::Seal(_)));
        format!("  {name}={}", if url { without_userinfo(value) } else { value.to_owned() })
    }));
    texts
}

/// A proxy's URL may hold a password.
fn without_userinfo(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        _ => url.to_owned(),
    }
}

/// All that is wrong: what makes the machine unusable, and what is only told.
fn judge(line: &Line) -> (Vec<String>, Vec<String>) {
    let (mut fatal, mut told) = (Vec::new(), Vec::new());
    if line.length >= LIMIT - 1 {
        fatal.push(format!(
            "{} bytes long: the kernel keeps {} and has cut the rest off; shorten it, or put long values into a file",
            line.length,
            LIMIT - 1
        ));
    } else if line.efi && line.length >= LIMIT_EFI {
        told.push(format!("{} bytes long: EFI kernels keep {LIMIT_EFI}, so its end may be missing", line.length));
    }
    for problem in line.fields.problems() {
        let vital = !problem.repeated && VITAL.iter().any(|key| key.name == problem.key);
        let text = problem.to_string();
        if vital { &mut fatal } else { &mut told }.push(text);
    }
    fatal.extend(network::unsupported(&line.fields));
    (fatal, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { fields: Cmdline::parse(text), length: text.len(), efi: false }
    }

    #[test]
    fn what_would_misdirect_the_machine_is_fatal_and_the_rest_is_told() {
        let (fatal, told) = judge(&line("grpc_authority=tink hw_addr=1 syslog_port=x facility=a facility=b BOOTIF"));
        assert_eq!(
            fatal,
            [
                "grpc_authority: \"tink\" is not host:port",
                "hw_addr: \"1\" is not a MAC address",
                "BOOTIF: given without a value, expected BOOTIF=a MAC address",
            ]
        );
        assert_eq!(
            told,
            ["syslog_port: \"x\" is not a port number", "facility: given more than once; the last value counts"]
        );
    }

    #[test]
    fn a_repeated_vital_key_is_only_told() {
        let (fatal, told) = judge(&line("grpc_authority=a:1 grpc_authority=b:2"));
        assert_eq!((fatal.len(), told.len()), (0, 1));
    }

    #[test]
    fn a_line_at_the_limit_of_the_kernel_is_fatal() {
        for (length, efi, fatal, told) in
            [(2042, true, 0, 0), (2043, true, 0, 1), (2046, false, 0, 0), (2047, false, 1, 0), (4000, true, 1, 0)]
        {
            let (is_fatal, is_told) = judge(&Line { fields: Cmdline::default(), length, efi });
            assert_eq!((is_fatal.len(), is_told.len()), (fatal, told), "{length} {efi}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let text = "registry_password=hunter2 HTTP_PROXY=http://bob:hunter2@proxy:3128 HTTPS_PROXY=bob:hunter2@proxy:1";
        let shown = describe(&line(text).fields).join("\n");
        assert!(shown.contains("HTTP_PROXY=http://***@proxy:3128"), "{shown}");
        let (fatal, told) = judge(&line(text));
        for shown in [shown, fatal.join("\n"), told.join("\n")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
