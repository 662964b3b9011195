//! Named moments in the code: where a simulator may let a process crash, and
//! by which it knows that a rare path was taken.
//!
//! A point is a trace event that nobody listens to in production: reaching one
//! costs the test of a flag. The name stands in the code that it belongs to.

/// The target of the events that points are.
pub const POINT_TARGET: &str = "quipu::point";

/// Marks a moment: `point!("vote-saved")`.
#[macro_export]
macro_rules! point {
    ($name:literal) => {
        $crate::environment::trace!(target: "quipu::point", point = $name)
    };
}

pub use tracing::trace;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::POINT_TARGET;

    /// Keeps the points that are reached.
    #[derive(Clone, Default)]
    struct Reached(Arc<Mutex<Vec<String>>>);

    impl Visit for Reached {
        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

        fn record_str(&mut self, field: &Field, value: &str) {
            assert_eq!(field.name(), "point");
            self.0.lock().expect("not poisoned").push(value.to_owned());
        }
    }

    impl Subscriber for Reached {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == POINT_TARGET
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_point_is_heard_of_by_its_name() {
        let reached = Reached::default();
        tracing::subscriber::with_default(reached.clone(), || {
            crate::point!("half-way");
            tracing::info!("something else");
        });
        assert_eq!(*reached.0.lock().expect("not poisoned"), ["half-way"]);
    }
}
