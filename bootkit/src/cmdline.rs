//! `bootkit cmdline`: the first step of every boot says what the configuration asks for and all that is wrong with it.
//! What a key does is decided by the service that obeys it; nothing here is guessed or mended.

use spec::boot::BootCode;
use spec::cmdline::{
    BOOTIF, CUT, Cmdline, DOCKER_REGISTRY, Era, GRPC_AUTHORITY, HTTP_PROXY, HTTPS_PROXY, HW_ADDR, IRONHOOK_CA,
    IRONHOOK_CONFIG, IRONHOOK_METADATA, IRONHOOK_WORKER, Key, Kind, LIMIT_EFI, NO_PROXY, REGISTRY_PASSWORD,
    TINK_WORKER_IMAGE, TINKERBELL_INSECURE_TLS, TINKERBELL_TLS, VLAN_ID, key, site,
};

use crate::config::Local;
use crate::console::say;
use crate::failure::Coded;
use crate::network;

/// Malformed, these would send the machine to the wrong place, or nowhere, or have it believe the wrong.
const VITAL: [&Key; 13] = [
    &GRPC_AUTHORITY,
    &TINKERBELL_TLS,
    &TINKERBELL_INSECURE_TLS,
    &HW_ADDR,
    &BOOTIF,
    &VLAN_ID,
    &HTTP_PROXY,
    &HTTPS_PROXY,
    &NO_PROXY,
    &IRONHOOK_WORKER,
    &IRONHOOK_CONFIG,
    &IRONHOOK_CA,
    &IRONHOOK_METADATA,
];

/// A line that has hardly come together without an operator's words, of which the last may be missing.
const LONG: usize = 1024;

/// The configuration cannot be obeyed. All reasons have been printed.
#[derive(Debug, thiserror::Error)]
pub enum CmdlineError {
    /// Values.
    #[error("{0} of the problems above must be put right in what boots this machine (boot script, hardware, loader)")]
    Unusable(usize),
    /// The kernel has cut the line, and nobody knows what was there.
    #[error("the command line was cut off, so this machine does not know what it should do")]
    Cut,
}

impl Coded for CmdlineError {
    fn code(&self) -> BootCode {
        match self {
            Self::Unusable(_) => BootCode::BadConfig,
            Self::Cut => BootCode::LineCut,
        }
    }
}

/// Prints keys and problems; an error if the machine cannot be used like this.
pub fn report(line: &Local) -> Result<(), CmdlineError> {
    describe(&line.fields).iter().for_each(say);
    if line.site {
        say(format_args!("command line: with the keys of {}", site::PATH));
    }
    let judged = judge(line);
    for text in &judged.told {
        say(format_args!("command line: {text}"));
    }
    for text in &judged.fatal {
        say(format_args!("command line: ERROR: {text}"));
    }
    match (judged.cut, judged.fatal.len()) {
        (true, _) => Err(CmdlineError::Cut),
        (false, 0) => Ok(()),
        (false, count) => Err(CmdlineError::Unusable(count)),
    }
}

/// One line a key; the same for everybody who shows a configuration.
pub fn describe(line: &Cmdline) -> Vec<String> {
    let (known, unknown) = (line.describe(), line.unknown());
    let mut texts = vec![format!("command line: {} keys known, {} others", known.len(), unknown.len())];
    texts.extend(known.into_iter().map(|(name, value)| {
        let row = key(name);
        let url = row.is_some_and(|key| matches!(key.kind, Kind::Url | Kind::Proxy | Kind::Seal(_)));
        let idle = if row.is_some_and(|key| key.era == Era::Ignored) { " (does nothing here)" } else { "" };
        format!("  {name}={}{idle}", if url { without_userinfo(value) } else { value.to_owned() })
    }));
    if !unknown.is_empty() {
        texts.push(format!("  others: {}", unknown.iter().map(|field| discreet(field)).collect::<Vec<_>>().join(" ")));
    }
    texts
}

/// A word of somebody else's, or a misspelt key of ours, whose name says that its value is nobody's business.
fn discreet(field: &str) -> String {
    let Some((name, _)) = field.split_once('=') else { return field.to_owned() };
    let lower = name.to_ascii_lowercase();
    let secret = ["word", "passwd", "pwd", "secret", "token", "ticket"].iter().any(|word| lower.contains(word));
    if secret { format!("{name}=***") } else { field.to_owned() }
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
#[derive(Default)]
struct Judged {
    fatal: Vec<String>,
    told: Vec<String>,
    cut: bool,
}

fn judge(line: &Local) -> Judged {
    let mut judged = Judged::default();
    judge_length(line, &mut judged);
    for problem in line.fields.problems() {
        let vital = !problem.repeated && VITAL.iter().any(|key| key.name == problem.key);
        if vital { &mut judged.fatal } else { &mut judged.told }.push(problem.to_string());
    }
    if line.fields.get(&REGISTRY_PASSWORD).is_some() && line.fields.render().contains(REGISTRY_PASSWORD.name) {
        judged.told.push(
            "registry_password: every program on this machine can read it here; the site file or metadata hide it"
                .into(),
        );
    }
    judged.fatal.extend(network::unsupported(&line.fields));
    judged
}

/// What loader or kernel have cut off shows in the length, but for EFI kernels, which drop whole words.
fn judge_length(line: &Local, judged: &mut Judged) {
    let length = line.length;
    let named =
        [&IRONHOOK_WORKER, &TINK_WORKER_IMAGE, &DOCKER_REGISTRY].into_iter().any(|key| line.fields.get(key).is_some());
    if length >= CUT {
        judged.cut = true;
        judged.fatal.push(format!(
            "{length} bytes long: loader and kernel keep {CUT} or one more and have cut the rest off; shorten it, or put \
             long values into a file (ironhook.config=<url>, /etc/ironhook/site.conf)"
        ));
    } else if line.efi && length >= LIMIT_EFI {
        judged.told.push(format!("{length} bytes long: EFI kernels keep {LIMIT_EFI}, so its end may be missing"));
    } else if line.efi && length >= LONG && !named {
        judged.told.push(format!(
            "{length} bytes long, and it does not say who works: an EFI kernel drops the words that do not fit; \
             ironhook.worker=builtin says that nothing is missing"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Local {
        Local { fields: Cmdline::parse(text), length: text.len(), efi: false, site: false }
    }

    #[test]
    fn what_would_misdirect_the_machine_is_fatal_and_the_rest_is_told() {
        let judged =
            judge(&line("grpc_authority=tink hw_addr=1 syslog_port=x facility=a facility=b BOOTIF tinkerbell_tls"));
        assert_eq!(
            judged.fatal,
            [
                "grpc_authority: \"tink\" is not host:port",
                "hw_addr: \"1\" is not a MAC address",
                "BOOTIF: given without a value, expected BOOTIF=a MAC address",
                "tinkerbell_tls: given without a value, expected tinkerbell_tls=true or false",
            ]
        );
        assert_eq!(
            judged.told,
            ["syslog_port: \"x\" is not a port number", "facility: given more than once; the last value counts"]
        );
    }

    #[test]
    fn a_repeated_vital_key_is_only_told() {
        let judged = judge(&line("grpc_authority=a:1 grpc_authority=b:2"));
        assert_eq!((judged.fatal.len(), judged.told.len()), (0, 1));
    }

    #[test]
    fn a_line_at_the_limit_of_the_kernel_is_fatal() {
        for (length, efi, fatal, told) in
            [(2042, true, 0, 1), (2043, true, 0, 1), (2045, false, 0, 0), (2046, false, 1, 0), (4000, true, 1, 0)]
        {
            let judged = judge(&Local { fields: Cmdline::default(), length, efi, site: true });
            assert_eq!(
                (judged.fatal.len(), judged.told.len(), judged.cut),
                (fatal, told, fatal == 1),
                "{length} {efi}"
            );
        }
    }

    #[test]
    fn a_long_line_of_efi_that_does_not_say_who_works_is_remarked_upon() {
        for (text, length, told) in [
            ("quiet", 1023, 0),
            ("quiet", 1024, 1),
            ("ironhook.worker=builtin", 1024, 0),
            ("tink_worker_image=a/b:1", 2042, 0),
        ] {
            let judged = judge(&Local { fields: Cmdline::parse(text), length, efi: true, site: false });
            assert_eq!((judged.fatal.len(), judged.told.len()), (0, told), "{text} {length}");
        }
    }

    #[test]
    fn words_of_others_are_listed_and_idle_keys_said_to_be() {
        let shown =
            describe(&Cmdline::parse("quiet packet_state=x console=ttyS0 tinkerbel_tls=false registry_pasword=x"));
        assert_eq!(
            shown,
            [
                "command line: 1 keys known, 4 others",
                "  packet_state=x (does nothing here)",
                "  others: quiet console=ttyS0 tinkerbel_tls=false registry_pasword=***",
            ]
        );
    }

    #[test]
    fn no_password_is_shown() {
        let text =
            "registry_password=hunter2 HTTP_PROXY=http://bob:hunter2@proxy:3128 HTTPS_PROXY=ftp://bob:hunter2@proxy:1";
        let shown = describe(&line(text).fields).join("\n");
        assert!(shown.contains("HTTP_PROXY=http://***@proxy:3128"), "{shown}");
        let judged = judge(&line(text));
        assert!(judged.told.iter().any(|told| told.starts_with("registry_password: every program")));
        for shown in [shown, judged.fatal.join("\n"), judged.told.join("\n")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
