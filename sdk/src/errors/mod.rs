//! Errors, one type an operation, each built on what can happen to any
//! request: [`RequestError`].
//!
//! Every one answers the two questions that decide a caller's next move:
//! `is_retryable`: may the same call succeed later? `has_no_side_effects`: is
//! it certain that nothing was changed?

mod append;
mod cursors;
mod groups;
mod logs;
mod read;
mod request;

pub use append::{AppendError, SendError};
pub use cursors::CursorError;
pub use groups::GroupError;
pub use logs::{AlterLogError, CreateLogError, DeleteLogError, LogError, TrimError, WriterError};
pub use read::ReadError;
pub use request::{FailedAttempt, RequestError};
