//! Waiting for a state of other processes, which tell nobody when they reach it,
//! and saying so where there is nothing to wait for.

use std::time::Duration;

/// How long a test waits for what must come. Far beyond what it takes, since
/// the machine may be busy; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a state is looked at.
const GLANCE: Duration = Duration::from_millis(25);

/// Looks again and again until `look` sees something, and returns it.
///
/// # Panics
/// When it has not seen it within [`PATIENCE`]; `what` and the last complaint
/// of `look` say what was missing.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut last = String::from("it was never looked at");
    let looking = async {
        loop {
            match look().await {
                Ok(seen) => return seen,
                Err(complaint) => last = complaint,
            }
            tokio::time::sleep(GLANCE).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(seen) => seen,
        Err(_) => panic!("{what} did not come to pass within {PATIENCE:?}: {last}"),
    }
}

/// Tells a person that a test did not test, and why: where the machine does not
/// allow what it takes.
#[expect(clippy::print_stderr, reason = "a person should know")]
pub fn not_tested(why: &str) {
    eprintln!("{why}: nothing was tested");
}
