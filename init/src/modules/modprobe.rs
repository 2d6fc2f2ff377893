//! The same program as the kernel calls it for request_module: `modprobe -q -- name`. It loads names and aliases with their
//! needs; it removes and lists nothing.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::{Index, Loader};
use crate::{cmdline, one_line};

const DIRECTORY: &str = "/usr/lib/modules";

/// What was asked for.
#[derive(PartialEq, Eq, Debug, Default)]
struct Request {
    quiet: bool,
    all: bool,
    names: Vec<String>,
}

/// Runs it; the arguments are those after the program's name.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    match parse(arguments).and_then(|request| run(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_empty() {
                tell(&format!("modprobe: {failure}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// To whoever called, and to the kernel's log: called by the kernel, nobody reads what a program says.
fn tell(line: &str) {
    eprintln!("{line}");
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one record; without the log there is no one else to tell.
        let _ = log.write_all(line.as_bytes());
    }
}

/// The options of the field that mean something here; with `-a` every word is a name, else the words after the
/// first are its parameters.
fn parse(arguments: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut request = Request::default();
    let mut options = true;
    for argument in arguments {
        match argument.as_str() {
            "--" if options => options = false,
            "--quiet" if options => request.quiet = true,
            "--all" if options => request.all = true,
            "--use-blacklist" | "--verbose" | "--syslog" if options => {}
            text if options && text.len() > 1 && text.starts_with('-') => {
                for letter in text.chars().skip(1) {
                    match letter {
                        'q' => request.quiet = true,
                        'a' => request.all = true,
                        'b' | 's' | 'v' => {}
                        _ => return Err(format!("option {text} is not known here")),
                    }
                }
            }
            _ => request.names.push(argument),
        }
    }
    if request.names.is_empty() { Err("no module is named".to_owned()) } else { Ok(request) }
}

/// An empty failure is one that was asked not to be told.
fn run(request: &Request) -> Result<(), String> {
    let release = sys::module::kernel_release().map_err(|error| format!("ask for the kernel's release: {error}"))?;
    let index = Index::read(&Path::new(DIRECTORY).join(release)).map_err(|error| one_line(&error))?;
    let mut options = cmdline::module_options();
    let (names, parameters) = request.names.split_at(if request.all { request.names.len() } else { 1 });
    for parameter in parameters {
        options.set(&names[0], parameter);
    }
    let loader = Loader::new(index, options);
    let mut failures = Vec::new();
    for name in names {
        if !loader.knows(name) {
            failures.extend((!request.quiet).then(|| format!("module {name} is not in the image")));
            failures.extend(request.quiet.then(String::new));
        }
        failures.extend(loader.load(name).iter().map(|failure| one_line(failure)));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_kernels_way_of_asking_is_understood() {
        let expected = Request { quiet: true, all: false, names: vec!["fs-ext4".into()] };
        assert_eq!(parsed("-q -- fs-ext4").unwrap(), expected);
    }

    #[test]
    fn engines_and_tools_ask_like_this() {
        assert_eq!(parsed("-va bridge br_netfilter").unwrap().names, ["bridge", "br_netfilter"]);
        assert!(parsed("-r overlay").is_err() && parsed("-q --").is_err());
    }
}
