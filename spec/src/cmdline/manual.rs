//! The manual page of the command line, made from the table so that the two cannot differ. Pure text.

use std::fmt::Write as _;

use super::{CUT, EARLY, Era, FROM_METADATA, KEYS, Key, LIMIT, LIMIT_EFI, site};

/// `docs/command-line.md`.
pub fn markdown() -> String {
    let mut page = format!(
        "# The kernel command line\n\n\
         <!-- Made from spec/src/cmdline by `make gen`; edit the table there. -->\n\n\
         Fields are separated by spaces and split once at the first `=`. There is no quoting: no loader agrees on one. Names are\n\
         case-sensitive. Of a key given twice the last value counts. All problems are told at once on the console; one that would send\n\
         the machine to the wrong place (server, TLS, interface, proxy) stops the boot. Words that are not in the tables are the kernel's\n\
         or another program's: they are listed and left alone.\n\n\
         **Length.** A stock x86 kernel keeps {} bytes (iPXE gives it {CUT}), {LIMIT_EFI} when it was started by EFI, and the rest is dropped\n\
         silently. A line that reaches the limit stops the boot: nobody knows what was cut off. Started by EFI, kernels since 5.8 drop whole\n\
         words, so what is left does not show it: a long line that does not say who works is remarked upon. The way out is a file with the\n\
         same keys.\n\n\
         **Files.** `{}` in a second initramfs (docs/site-bundle.md), and the file behind `ironhook.config`. One `key=value` a\n\
         line; values may have spaces; `#` begins a comment line; an unknown key is an error.\n\n\
         **Who wins.** The command line, then the file of `ironhook.config`, then `{}`, then metadata.\n",
        LIMIT - 1,
        site::PATH,
        site::PATH,
    );
    for (era, title, intro) in [
        (Era::Both, "Tinkerbell's keys", "Understood as Hook understands them."),
        (Era::Older, "Keys of Tinkerbell up to 0.7", "Still obeyed."),
        (Era::Ours, "Ironhook's own keys", "Not known to other environments, which ignore them."),
        (
            Era::Ignored,
            "Keys that do nothing here",
            "Known, so that they are not mistaken for typing errors and their secrets stay hidden.",
        ),
    ] {
        let _ = write!(
            page,
            "\n## {title}\n\n{intro}\n\n| key | value | default | from | meaning |\n| --- | --- | --- | --- | --- |\n"
        );
        for key in KEYS.iter().filter(|key| key.era == era) {
            let Key { name, default, doc, .. } = key;
            let kind = key.kind.describe();
            let secret = if key.secret { " **Secret**: never shown." } else { "" };
            let _ = writeln!(page, "| `{name}` | {kind} | {default} | {} | {doc}{secret} |", sources(key));
        }
    }
    page.push_str(METADATA);
    page
}

fn sources(key: &Key) -> &'static str {
    let among = |list: &[&Key]| list.iter().any(|other| other.name == key.name);
    match (among(EARLY), among(FROM_METADATA)) {
        (true, _) => "line, bundle",
        (false, true) => "line, files, metadata",
        (false, false) => "line, files",
    }
}

const METADATA: &str = "
## Metadata

Asked only when `tinkerbell` (classic: its port 50061) or `ironhook.metadata` (any base) is given. `GET <base>/metadata` may answer
with an object `ironhook` that holds keys of the tables above as strings, and certificate authorities as `ca` (PEM). It fills in
what nobody else has said, and only keys with `metadata` in the column `from`: a metadata service is identified by nothing but its
address, so it has no say in where the machine works, for whom, what it runs and what it believes unverified. Any other key in it
is told and not obeyed. Its `ca` is believed for registries only. The classic `id` is passed to a worker image as `container_uuid`.
Where `/metadata` is missing or has no `id`, the EC2 tree (`<base>/2009-04-04/meta-data/instance-id`) is asked for it, and for nothing
else: what stands in that tree is also read, and kept, by the operating system that is installed.
";
