//! A clock that goes as the system's does, and further when a test says so: what waits
//! for a time need not be waited for.

use std::sync::Arc;
use std::time::Duration;

use quipu_protocol::Timestamp;
use quipu_protocol::environment::{BoxFuture, Clock, Environment};
use tokio::sync::watch;

use crate::node::environment;

pub(crate) struct MovedClock {
    system: Arc<dyn Clock>,
    ahead: watch::Sender<Duration>,
}

impl MovedClock {
    /// One, and an environment that has it.
    pub(crate) fn environment() -> (Arc<Self>, Environment) {
        let around = environment();
        let clock = Arc::new(Self { system: Arc::clone(&around.clock), ahead: watch::Sender::default() });
        (Arc::clone(&clock), Environment { clock, ..around })
    }

    /// Moves it on: whoever sleeps until then wakes up.
    pub(crate) fn pass(&self, time: Duration) {
        self.ahead.send_modify(|ahead| *ahead += time);
    }
}

impl Clock for MovedClock {
    fn monotonic(&self) -> Duration {
        self.system.monotonic() + *self.ahead.borrow()
    }

    fn wall(&self) -> Timestamp {
        let ahead = i64::try_from(self.ahead.borrow().as_millis()).expect("a test is short");
        Timestamp::new(self.system.wall().get() + ahead)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.monotonic().saturating_add(duration);
        let (system, mut ahead) = (Arc::clone(&self.system), self.ahead.subscribe());
        Box::pin(async move {
            loop {
                let now = system.monotonic() + *ahead.borrow_and_update();
                let left = until.saturating_sub(now);
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = system.sleep(left) => {}
                    moved = ahead.changed() => if moved.is_err() {
                        // Nobody can move it any more.
                        return system.sleep(left).await;
                    }
                }
            }
        })
    }
}
