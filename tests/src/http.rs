//! Asking a node over HTTP.

use std::io;

use quipu_sdk::system;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::PATIENCE;

/// The status and the body that `path` is answered with at `address`.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub async fn http_get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let asked = async {
        let mut connection = system::environment().network.connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        parsed(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
    };
    tokio::time::timeout(PATIENCE, asked).await?
}

/// A metric without labels of the node that answers HTTP at `address`.
///
/// # Panics
/// When the node does not tell.
pub async fn metric(address: &str, name: &str) -> u64 {
    let (status, page) = http_get(address, "/metrics").await.unwrap_or_else(|error| panic!("{address}: {error}"));
    assert_eq!(status, 200, "{page}");
    let sample = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not in {page}"))
}

fn parsed(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
