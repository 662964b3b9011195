//! Asking a node whether it serves.

use std::time::Duration;

use quipu_protocol::environment::{Clock, Environment};
use quipu_protocol::transport::{self, ChannelOptions};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A question that gets no answer for so long has got none.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// Resolves once the node at `address` answers that it serves.
pub(super) async fn serving(environment: &Environment, address: &str) -> Result<(), transport::AddressError> {
    let options = ChannelOptions { connect_timeout: ANSWER_WITHIN, ..ChannelOptions::default() };
    let mut client = HealthClient::new(transport::channel(environment, address, options)?);
    while !serves(&*environment.clock, &mut client).await {
        environment.clock.sleep(ASK_EVERY).await;
    }
    Ok(())
}

async fn serves(clock: &dyn Clock, client: &mut HealthClient<Channel>) -> bool {
    // The empty name is the node as a whole.
    let question = client.check(HealthCheckRequest { service: String::new() });
    match clock.timeout(ANSWER_WITHIN, question).await {
        Ok(Ok(answer)) => answer.into_inner().status() == ServingStatus::Serving,
        Ok(Err(_)) | Err(_) => false,
    }
}
