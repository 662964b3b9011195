//! What commands print: results to standard output, everything else to
//! standard error. Tables and numbers look as those of `quipu` do.

use std::time::Duration;

pub(crate) use quipu_server::output::{Table, counted, for_people, grouped};

/// Tells a person what went wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where a command speaks to its user")]
pub(crate) fn complain(message: &str) {
    eprintln!("quipu-simulation: {message}");
}

/// Whole seconds, their thousands apart; tenths where there are few.
pub(crate) fn seconds(milliseconds: u64) -> String {
    if milliseconds >= 100_000 {
        return format!("{} s", grouped(milliseconds / 1_000));
    }
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}

/// `count` for each of `of`.
#[expect(clippy::cast_precision_loss, reason = "a ratio of 2⁵³ needs no last digit")]
pub(crate) fn per(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn few_seconds_have_tenths() {
        assert_eq!(seconds(1_250), "1.2 s");
        assert_eq!(seconds(1_234_567), "1,234 s");
    }
}
