//! The action `witness`: says once, at a place of its own, that it ran, and ends when it is allowed to.
//! Standard library only: it is packed as the only file of its image.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks at the gate.
const PAUSE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("witness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let url = variable("WITNESS_URL")?;
    let line = variable("WITNESS_LINE")?;
    let authority =
        url.strip_prefix("http://").ok_or_else(|| Error::other(format!("WITNESS_URL is {url:?}, expected http://")))?;
    let status = request(authority, &format!("POST /line HTTP/1.1\r\nContent-Length: {}\r\n\r\n{line}", line.len()))?;
    if status != "204" {
        return Err(Error::other(format!("{url}/line answered {status}")));
    }
    println!("witness: {line} is on record");
    while request(authority, "GET /gate HTTP/1.1\r\n\r\n")? != "204" {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| Error::other(format!("{name} is not set")))
}

/// Sends a request and returns the status.
fn request(authority: &str, text: &str) -> Result<String> {
    let mut stream = TcpStream::connect(authority)?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_whitespace().nth(1).unwrap_or_default().to_owned())
}
