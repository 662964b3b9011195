//! The logs of a cluster, a page at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use quipu_protocol::v1::cluster_client::ClusterClient;
use quipu_protocol::{LogPattern, v1};

use crate::client::understand;
use crate::cluster::{Cluster, MAX_MESSAGE_BYTES, PursuitError, Target};
use crate::wire::LogPage;
use crate::{LogSummary, RequestError};

/// How many logs are asked for at once.
const PAGE: u32 = 1_000;

/// Logs by name, asked for a page at a time: at most one page is held. Logs
/// that are created or deleted meanwhile are seen or not, by their names.
pub struct Logs {
    cluster: Arc<Cluster>,
    pattern: Option<LogPattern>,
    /// The last name that was received.
    after: String,
    page: VecDeque<LogSummary>,
    more: bool,
}

impl Logs {
    pub(crate) fn new(cluster: Arc<Cluster>, pattern: Option<LogPattern>) -> Self {
        Self { cluster, pattern, after: String::new(), page: VecDeque::new(), more: true }
    }

    /// The next log; `None` once there is none. Dropping the future loses
    /// nothing; after an error that is retryable, call it again.
    pub async fn next(&mut self) -> Result<Option<LogSummary>, RequestError> {
        while self.page.is_empty() && self.more {
            self.ask().await?;
        }
        Ok(self.page.pop_front())
    }

    /// The logs as a stream, for combinators.
    pub fn into_stream(self) -> impl Stream<Item = Result<LogSummary, RequestError>> + Send {
        futures_util::stream::unfold(self, |mut logs| async {
            let next = logs.next().await.transpose()?;
            Some((next, logs))
        })
    }

    /// Asks for the next page.
    async fn ask(&mut self) -> Result<(), RequestError> {
        let pattern = self.pattern.as_ref().map(ToString::to_string).unwrap_or_default();
        let after = &self.after;
        let request = || v1::ListLogsRequest { after: after.clone(), limit: PAGE, pattern: pattern.clone() };
        let call = |channel| async {
            ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).list_logs(request()).await
        };
        let answer = self.cluster.call(Target::Any, call).await.map_err(PursuitError::into_request_error)?;
        let more = answer.value.more;
        let LogPage(page) = understand(answer)?;
        // A page that brings nothing new would be asked for again for ever.
        let goes_on = page.last().is_some_and(|last| last.name.as_str() > self.after.as_str());
        if let Some(last) = page.last() {
            self.after = last.name.to_string();
        }
        self.more = more && goes_on;
        self.page = page.into();
        Ok(())
    }
}
