//! Manual pages, made from a program's command line and kept in docs/man. A test of each program calls [`check`], so a
//! page never tells another story than `--help`. For tests only: no program depends on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;

/// The page of a command line, with a section for each subcommand and for those of each.
pub fn page(command: Command) -> io::Result<String> {
    let mut command = command.term_width(0);
    command.build();
    let name = command.get_name().to_owned();
    let mut out = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).date("").source("Ironhook").manual("Ironhook");
    man.render(&mut out)?;
    sections(&command, &name, &mut out)?;
    let text = String::from_utf8(out).map_err(io::Error::other)?;
    // The sections of a subcommand are paragraphs of its own section.
    Ok(subordinate(&text))
}

/// A section for each subcommand, and after it those of its own.
fn sections(command: &Command, name: &str, out: &mut Vec<u8>) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        let title = format!("{name} {}", subcommand.get_name());
        out.extend_from_slice(format!(".SH \"{}\"\n", title.to_uppercase()).as_bytes());
        let man = clap_mangen::Man::new(subcommand.clone());
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_options_section(out)?;
        sections(subcommand, &title, out)?;
    }
    Ok(())
}

/// Within the section of a subcommand, the renderer's headings become smaller ones.
fn subordinate(text: &str) -> String {
    let (mut out, mut own) = (String::new(), false);
    for line in text.lines() {
        own |= line.starts_with(".SH \"");
        let small = own && line.starts_with(".SH ") && !line.starts_with(".SH \"");
        out.push_str(&if small { line.replacen(".SH ", ".SS ", 1) } else { line.to_owned() });
        out.push('\n');
    }
    out
}

/// Compares the page with docs/man/<name>.1; with `UPDATE_GOLDENS` set, writes it. The error says what to do.
pub fn check(command: Command) -> Result<(), String> {
    let path = place(command.get_name());
    let page = page(command).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let folder = path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, &page));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    match fs::read_to_string(&path) {
        Ok(old) if old == page => Ok(()),
        Ok(_) => Err(format!("{} is not what the command line says; run `make gen`", path.display())),
        Err(error) => Err(format!("{}: {error}; run `make gen`", path.display())),
    }
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man").join(format!("{name}.1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn every_subcommand_and_option_is_on_the_page() {
        let arg = Arg::new("deep").long("deep").help("How deep.");
        let fill = Command::new("fill").about("Not any more.");
        let hole = Command::new("hole").about("A hole.").arg(arg).subcommand(fill);
        let page = page(Command::new("dig").about("Digs.").subcommand(hole)).unwrap();
        for part in
            [".SH \"DIG HOLE\"", ".SH \"DIG HOLE FILL\"", "A hole.", "Not any more.", "\\-\\-deep", ".SS OPTIONS"]
        {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
        assert_eq!(page.matches(".TH ").count(), 1);
    }
}
