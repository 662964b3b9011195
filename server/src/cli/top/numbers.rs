//! Numbers in few columns.

use std::time::Duration;

/// A count, or so many a second: `7`, `0.4`, `950`, `1.2k`, `34k`, `5.6M`.
pub(super) fn short(number: f64) -> String {
    scaled(number, 1000.0, ["", "k", "M", "G", "T", "P"])
}

/// Bytes, or so many a second: `0`, `512`, `1.5K`, `64K`, `1.0M`; K is 1024.
pub(super) fn bytes(number: f64) -> String {
    scaled(number, 1024.0, ["", "K", "M", "G", "T", "P"])
}

fn scaled(number: f64, step: f64, units: [&str; 6]) -> String {
    let mut scaled = number;
    let mut units = units.into_iter().peekable();
    let mut unit = units.next().unwrap_or_default();
    // 999.6 would be printed as 1000.
    while scaled >= step - 0.5
        && let Some(next) = units.next()
    {
        scaled /= step;
        unit = next;
    }
    // Whole numbers are whole; of the others, two digits say enough.
    if (unit.is_empty() && scaled.fract() == 0.0) || scaled >= 9.95 {
        format!("{scaled:.0}{unit}")
    } else {
        format!("{scaled:.1}{unit}")
    }
}

/// How long something has lasted: `5s`, `1m20s`, `2h05m`, `3d04h`.
pub(super) fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_at_most_four_columns() {
        let counts =
            [(0.0, "0"), (0.42, "0.4"), (7.0, "7"), (7.25, "7.2"), (42.4, "42"), (950.0, "950"), (999.6, "1.0k")];
        for (number, expect) in counts.into_iter().chain([(1_234.0, "1.2k"), (34_567.0, "35k"), (5.6e6, "5.6M")]) {
            assert_eq!(short(number), expect, "{number}");
        }
        for number in [999_400.0, 999_600.0, 123_456_789.0, 9.99e14] {
            assert!(short(number).len() <= 4, "{number}: {}", short(number));
        }
    }

    #[test]
    fn bytes_are_counted_in_powers_of_1024() {
        for (number, expect) in [(512.0, "512"), (1536.0, "1.5K"), (65_536.0, "64K"), (1_048_576.0, "1.0M")] {
            assert_eq!(bytes(number), expect, "{number}");
        }
    }

    #[test]
    fn times_are_told_by_their_two_largest_units() {
        for (seconds, expect) in [(0, "0s"), (59, "59s"), (80, "1m20s"), (7_500, "2h05m"), (273_600, "3d04h")] {
            assert_eq!(lasting(Duration::from_secs(seconds)), expect);
        }
    }
}
