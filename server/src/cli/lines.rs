//! Lines of any bytes, read as they come and with bounded memory.
//!
//! A line is what stands before a line feed, whatever it is; carriage returns
//! stay. What follows the last line feed is a line too, unless it is nothing.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines of at most `max_bytes`.
pub(crate) struct Lines<R> {
    input: R,
    max_bytes: usize,
    /// What has been read of a line whose end has not.
    partial: BytesMut,
    ended: bool,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("a line has more than {limit} bytes, the most that any log's max_batch_bytes allows")]
    TooLong { limit: usize },
    #[error("the input cannot be read: {0}")]
    Input(#[from] io::Error),
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R, max_bytes: usize) -> Self {
        Self { input, max_bytes, partial: BytesMut::new(), ended: false }
    }

    /// The next line, without its line feed; none at the end. Nothing is lost
    /// when the future is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                self.ended = true;
                let last = self.partial.split().freeze();
                return Ok((!last.is_empty()).then_some(last));
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = &available[..end.unwrap_or(available.len())];
            if self.partial.len() + taken.len() > self.max_bytes {
                self.ended = true;
                return Err(LineError::TooLong { limit: self.max_bytes });
            }
            self.partial.extend_from_slice(taken);
            let consumed = taken.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if end.is_some() {
                return Ok(Some(self.partial.split().freeze()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::{LineError, Lines};

    async fn lines(input: &[u8], buffer: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input), 100);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.expect("memory can be read") {
            read.push(line.to_vec());
        }
        read
    }

    #[tokio::test]
    async fn every_line_is_kept_as_it_is() {
        let cases: [(&[u8], &[&[u8]]); 7] = [
            (b"", &[]),
            (b"\n", &[b""]),
            (b"one", &[b"one"]),
            (b"one\n", &[b"one"]),
            (b"one\n\ntwo", &[b"one", b"", b"two"]),
            (b"one\r\ntwo\r", &[b"one\r", b"two\r"]),
            (b"\xff\0\n\n", &[b"\xff\0", b""]),
        ];
        for (input, expect) in cases {
            for buffer in [1, 2, 3, 1000] {
                assert_eq!(lines(input, buffer).await, expect, "{input:?} by {buffer}");
            }
        }
    }

    #[tokio::test]
    async fn a_line_over_the_bound_is_refused_before_it_is_in_memory() {
        let endless = tokio::io::repeat(b'x');
        let mut lines = Lines::new(BufReader::new(endless), 100_000);
        assert!(matches!(lines.next().await, Err(LineError::TooLong { limit: 100_000 })));
        assert!(matches!(lines.next().await, Ok(None)), "nothing comes after it");
    }
}
