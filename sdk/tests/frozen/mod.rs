//! A hop between client and node whose connections can be made to hang: they
//! stay open, and nothing gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quipu_protocol::environment::Task;
use quipu_sdk::system;
use tokio::sync::watch;

pub(crate) struct Freezer {
    pub(crate) address: String,
    frozen: watch::Sender<u64>,
    opened: Arc<AtomicU64>,
    _task: Task,
}

impl Freezer {
    /// A hop to the node at `target`.
    pub(crate) async fn before(target: &str) -> Self {
        let environment = system::environment();
        let mut listener = environment.network.listen("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_address().expect("an address").to_string();
        // Connections up to this number are frozen.
        let (frozen, frozen_up_to) = watch::channel(0);
        let opened = Arc::new(AtomicU64::new(0));
        let (target, count, tasks) = (target.to_owned(), Arc::clone(&opened), environment.clone());
        let accept = async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (target, mut frozen, network) =
                    (target.clone(), frozen_up_to.clone(), Arc::clone(&environment.network));
                let relay = async move {
                    let mut far = network.connect(&target).await.expect("the node is there");
                    let freezes = async {
                        let _ = frozen.wait_for(|frozen| *frozen >= number).await;
                    };
                    tokio::select! {
                        biased;
                        () = freezes => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    }
                    // Both ends stay open, and nobody reads or writes.
                    std::future::pending::<()>().await;
                };
                environment.tasks.spawn("relay", Box::pin(relay)).detach();
            }
        };
        let task = tasks.tasks.spawn("freezer", Box::pin(accept));
        Self { address, frozen, opened, _task: task }
    }

    /// Freezes all connections that are open by now.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(self.opened.load(Ordering::SeqCst));
    }
}
