//! The table at the end, and what to try next.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::story::Mark;
use crate::lab::Lab;

/// What is printed when the demo has come to its end.
pub(super) fn report(marks: &[Mark], lab: &Lab, serial: &Path) -> String {
    let dir = lab.dir().display();
    format!(
        "\n{}\nserial console  {}\nserver's log    {}\n\
         try next        change {dir}/workflow.yaml into your own (docs/examples shows each kind of object)\n\
         \x20               make test runs this installation and its failures: a cut download, a wrong digest, a killed server\n",
        table(marks),
        serial.display(),
        lab.server_log().display(),
    )
}

fn table(marks: &[Mark]) -> String {
    let width = marks.iter().map(|mark| mark.name.len()).max().unwrap_or(0).max("phase".len());
    let mut text = format!("{:width$}  seconds  until\n", "phase");
    let mut before = Duration::ZERO;
    for mark in marks {
        let took = mark.at.saturating_sub(before).as_secs_f64();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{:width$}  {took:7.1}  {:5.1}", mark.name, mark.at.as_secs_f64());
        before = mark.at;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_between_marks() {
        let mark = |name: &str, s| Mark { name: name.into(), at: Duration::from_secs(s) };
        let text = table(&[mark("one", 2), mark("two", 5)]);
        assert_eq!(text, "phase  seconds  until\none        2.0    2.0\ntwo        3.0    5.0\n");
    }
}
