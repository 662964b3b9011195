//! Following one request through a cluster: what is carried along with it, as
//! W3C Trace Context has it (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::str::FromStr;

use crate::environment::Random;

/// The key of a request's metadata that a context stands under.
pub const TRACEPARENT: &str = "traceparent";

/// Bytes of an encoded context.
const ENCODED: usize = 24;

/// Which trace a request belongs to, and which of its spans is the one that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    trace: u128,
    /// Never 0.
    span: u64,
    sampled: bool,
}

impl TraceContext {
    /// A trace that begins here, and is recorded.
    pub fn begin(random: &dyn Random) -> Self {
        let trace = u128::from(random.next()) << 64 | u128::from(random.next());
        Self { trace: trace.max(1), span: random.next().max(1), sampled: true }
    }

    /// The same trace, with another span.
    #[must_use]
    pub fn child(self, random: &dyn Random) -> Self {
        Self { span: random.next().max(1), ..self }
    }

    /// The trace's id.
    pub const fn trace(self) -> u128 {
        self.trace
    }

    /// The span's id.
    pub const fn span(self) -> u64 {
        self.span
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// In 24 bytes: the trace's id and the span's, big-endian. Only contexts of
    /// traces that are recorded are worth carrying.
    pub fn to_bytes(self) -> [u8; ENCODED] {
        let mut bytes = [0; ENCODED];
        bytes[..16].copy_from_slice(&self.trace.to_be_bytes());
        bytes[16..].copy_from_slice(&self.span.to_be_bytes());
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote; none from anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENCODED] = bytes.try_into().ok()?;
        let (trace, span) = bytes.split_at(16);
        let (trace, span) = (u128::from_be_bytes(trace.try_into().ok()?), u64::from_be_bytes(span.try_into().ok()?));
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled: true })
    }
}

/// As in `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// The text is no traceparent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct TraceContextError;

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// Later versions may say more after the flags; it is left aside.
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let mut fields = text.split('-');
        let mut hex = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits);
            let right = |field: &&str| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let field = field.filter(right).ok_or(TraceContextError)?;
            u128::from_str_radix(field, 16).map_err(|_| TraceContextError)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let more = fields.next().is_some();
        let span = u64::try_from(span).map_err(|_| TraceContextError)?;
        if version == 0xff || trace == 0 || span == 0 || (version == 0 && more) {
            return Err(TraceContextError);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_comes_back_from_text_and_from_bytes() {
        let context: TraceContext = EXAMPLE.parse().expect("the standard's own example");
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(
            (context.trace() >> 96, context.span() >> 32, context.is_sampled()),
            (0x4bf9_2f35, 0x00f0_67aa, true)
        );
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        let unsampled = EXAMPLE.replace("-01", "-00").parse::<TraceContext>().expect("is one");
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let upper = EXAMPLE.to_uppercase();
        let (longer, version) = (format!("{EXAMPLE}-00"), EXAMPLE.replacen("00", "ff", 1));
        let signed = EXAMPLE.replacen("4b", "+b", 1);
        for bad in ["", "00", "ä", zero_trace, zero_span, &upper, &longer, &version, &signed, &EXAMPLE[..54]] {
            assert_eq!(bad.parse::<TraceContext>(), Err(TraceContextError), "{bad:?}");
        }
        let later = format!("{}-what-comes-later", EXAMPLE.replacen("00", "01", 1));
        assert!(later.parse::<TraceContext>().is_ok(), "a later version may say more");
        for bad in [&[][..], &[0; 24], &[1; 23], &[1; 25]] {
            assert_eq!(TraceContext::from_bytes(bad), None);
        }
    }
}
