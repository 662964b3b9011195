//! A run of the `quipu` command, as a script would see it.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::binary::variables_of_quipu;
use crate::{PATIENCE, quipu};

/// A command yet to be run.
pub struct Command {
    line: String,
    command: tokio::process::Command,
    input: Vec<u8>,
}

impl Command {
    /// `quipu` with these arguments and no cluster in its environment.
    pub fn new<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(arguments: I) -> Self {
        let mut command = tokio::process::Command::new(quipu());
        for name in variables_of_quipu() {
            command.env_remove(name);
        }
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let words = command.as_std().get_args().map(|word| word.to_string_lossy().into_owned());
        let line = std::iter::once("quipu".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        Self { line, command, input: Vec::new() }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What the command finds on its standard input; otherwise nothing.
    #[must_use]
    pub fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = input.as_ref().to_owned();
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn run(mut self) -> Finished {
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.line));
        let mut stdin = child.stdin.take().expect("a pipe");
        let feed = async move {
            // A command that refuses its arguments never reads its input.
            let _ = stdin.write_all(&self.input).await;
        };
        let running = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(PATIENCE, running)
            .await
            .unwrap_or_else(|_| panic!("`{}` did not end within {PATIENCE:?}", self.line))
            .expect("a child can be awaited");
        Finished {
            line: self.line,
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it and asserts that it succeeded.
    pub async fn succeeds(self) -> Finished {
        self.run().await.exits_with(0)
    }

    /// Runs it and asserts that it was refused (exit code 1).
    pub async fn is_refused(self) -> Finished {
        self.run().await.exits_with(1)
    }

    /// The process, for a command that runs on.
    pub fn spawn(mut self) -> tokio::process::Child {
        self.command.stdin(Stdio::null());
        self.spawn_fed()
    }

    /// The process, whose input comes little by little.
    pub fn spawn_fed(mut self) -> tokio::process::Child {
        self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.line))
    }
}

/// A command that has ended.
pub struct Finished {
    line: String,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Finished {
    /// Asserts the exit code.
    #[must_use]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "the exit code of {self}");
        self
    }

    /// Asserts everything that was printed to standard output, to the byte.
    pub fn prints(self, expected: impl AsRef<[u8]>) -> Self {
        let expected = expected.as_ref();
        assert!(
            self.stdout == expected,
            "expected on standard output: {:?}\n{self}",
            String::from_utf8_lossy(expected)
        );
        self
    }

    /// Asserts that standard error has this in it, and standard output nothing.
    pub fn complains_of(self, part: &str) -> Self {
        assert!(self.stdout.is_empty(), "a refusal prints nothing to standard output: {self}");
        self.mentions(part)
    }

    /// Asserts that standard error has this in it.
    pub fn mentions(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "standard error lacks {part:?}: {self}");
        self
    }

    /// The exit code; none after a signal.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// Standard output.
    pub fn bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "`{line}` → {code:?}\nstdout: {:?}\nstderr: {stderr}", String::from_utf8_lossy(stdout))
    }
}
