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

fn parsed(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
