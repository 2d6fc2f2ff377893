//! The server's activity as it happens: the same stream that `ironhook watch` shows.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use spec::activity::Activity;

/// Everything since the server started, and then for as long as it runs.
pub fn follow(api: SocketAddr) -> io::Result<impl Iterator<Item = io::Result<Activity>>> {
    let mut stream = TcpStream::connect(api)?;
    // HTTP/1.0, so that the lines come as they are, without chunks around them.
    write!(stream, "GET /apis/ironhook.dev/v1alpha1/activity?since=all HTTP/1.0\r\nHost: {api}\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(io::Error::other(format!("the server answered {status:?} to the question for its activity")));
    }
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let lines = lines.filter(|line| !matches!(line, Ok(text) if text.is_empty()));
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::other)))
}
