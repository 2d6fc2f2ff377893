//! Which terminals are consoles: those that an operator names with `console=`, else every one that is there. Pure.

use spec::cmdline::{Cmdline, IRONHOOK_CONSOLES};

/// A terminal as `/sys/class/tty` has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tty {
    /// `ttyS0`, `hvc0`, `tty0`.
    pub name: String,
    /// Of a serial port: 0 says that no chip answers.
    pub kind: Option<u64>,
    /// Of a serial port: where it is among the I/O ports.
    pub port: Option<u64>,
    /// Of a serial port: where it is in memory.
    pub memory: Option<u64>,
}

impl Tty {
    /// Whether it is a serial port with a chip.
    pub fn is_uart(&self) -> bool {
        self.kind.is_some_and(|kind| kind != 0)
    }
}

/// Names below `/dev`, the kernel's own first. `active` is the kernel's list: what the command line, SPCR, the device
/// tree or its default has come to.
pub fn choose(line: &str, active: &str, ttys: &[Tty]) -> Vec<String> {
    let mut chosen: Vec<String> = active.split_whitespace().map(str::to_owned).collect();
    if !only_named(line) {
        let there = ttys.iter().filter(|tty| tty.is_uart() || tty.name == "tty0" || is_numbered("hvc", &tty.name));
        for tty in there {
            if !chosen.contains(&tty.name) {
                chosen.push(tty.name.clone());
            }
        }
    }
    if chosen.is_empty() { vec!["console".to_owned()] } else { chosen }
}

/// Whether the kernel prints there itself, and so has set it up.
pub fn is_active(active: &str, name: &str) -> bool {
    active.split_whitespace().any(|each| each == name)
}

fn only_named(line: &str) -> bool {
    match Cmdline::parse(line).get(&IRONHOOK_CONSOLES) {
        Some("all") => false,
        Some("named") => true,
        _ => line.split_whitespace().any(|field| field.starts_with("console=")),
    }
}

fn is_numbered(kind: &str, name: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Vec<Tty> {
        let tty = |name: &str, kind| Tty { name: name.into(), kind, ..Tty::default() };
        vec![
            tty("hvc0", None),
            tty("ptmx", None),
            tty("tty", None),
            tty("tty0", None),
            tty("tty1", None),
            tty("ttyS0", Some(0)),
            tty("ttyS1", Some(4)),
        ]
    }

    #[test]
    fn without_a_word_of_the_operator_all_that_answer_are_used() {
        assert_eq!(choose("quiet", "tty0\n", &there()), ["tty0", "hvc0", "ttyS1"]);
        assert_eq!(choose("", "", &[]), ["console"]);
    }

    #[test]
    fn an_operators_console_is_the_only_one() {
        assert_eq!(choose("console=ttyS1,9600", "ttyS1\n", &there()), ["ttyS1"]);
        assert_eq!(choose("console=null ironhook.consoles=named", "", &there()), ["console"]);
    }

    #[test]
    fn a_default_that_names_consoles_can_say_that_it_is_only_a_default() {
        let line = "console=tty0 console=ttyS0,115200 ironhook.consoles=all";
        assert_eq!(choose(line, "ttyS0 tty0\n", &there()), ["ttyS0", "tty0", "hvc0", "ttyS1"]);
    }
}
