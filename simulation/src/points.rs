//! Hears of the points that the code under test reaches, and on which host.
//!
//! ```text
//!   point!("…") ─▶ trace event ─▶ Points ─▶ the run's listener (host, name)
//!                                    ▲
//!   turmoil's span of the host ──────┘
//! ```

use std::cell::RefCell;

use quipu_protocol::environment::POINT_TARGET;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Told of the host that reached a point, and of the point's name.
type Listener = Box<dyn Fn(&str, &str)>;

thread_local! {
    /// The hosts whose spans are entered: libraries instrument their tasks with
    /// the span that they find, so that a host's span is entered within itself.
    static HOSTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Calls `listener` for every point that a host reaches from now on. Simulations
/// have one thread, and a process one simulation at a time.
pub(crate) fn listen(listener: impl Fn(&str, &str) + 'static) {
    LISTENER.set(Some(Box::new(listener)));
}

/// Lets go of the listener.
pub(crate) fn stop_listening() {
    LISTENER.set(None);
}

/// Installs what hears of points; with `log`, also what prints the log of the
/// code under test. Once a process.
pub fn install(log: Option<&str>) {
    let points = tracing_subscriber::registry().with(Points { alone: log.is_none() });
    // Whoever was first listens already: in tests, where several runs share a
    // process.
    let _ = match log {
        None => tracing::subscriber::set_global_default(points),
        Some(filter) => {
            let printed = tracing_subscriber::fmt::layer().without_time().with_writer(std::io::stderr);
            let filter = tracing_subscriber::EnvFilter::new(filter);
            tracing::subscriber::set_global_default(points.with(printed.with_filter(filter)))
        }
    };
}

/// The name of a host, as turmoil's span has it.
struct HostName(String);

/// Decides what is heard itself and is no filtered layer: an event that comes
/// after something that its filter refused may not reach a filtered layer, and
/// whoever misses points is another run.
struct Points {
    /// That nobody else listens, so that nothing else has to be made: spans of
    /// the libraries cost a quarter of a run.
    alone: bool,
}

impl Points {
    fn wants(metadata: &Metadata<'_>) -> bool {
        let is_host = metadata.is_span() && metadata.name() == "node" && metadata.target().starts_with("turmoil");
        is_host || metadata.target() == POINT_TARGET
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Points {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::wants(metadata) || !self.alone { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        Self::wants(metadata) || !self.alone
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !Self::wants(attributes.metadata()) {
            return;
        }
        let mut name = Text::named("name");
        attributes.record(&mut name);
        if let (Some(span), Some(name)) = (context.span(id), name.found) {
            span.extensions_mut().insert(HostName(name));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(HostName(name)) = span.extensions().get() {
            HOSTS.with_borrow_mut(|hosts| hosts.push(name.clone()));
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let is_host = context.span(id).is_some_and(|span| span.extensions().get::<HostName>().is_some());
        if is_host {
            HOSTS.with_borrow_mut(Vec::pop);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !Self::wants(event.metadata()) {
            return;
        }
        let mut point = Text::named("point");
        event.record(&mut point);
        let Some(point) = point.found else { return };
        HOSTS.with_borrow(|hosts| {
            LISTENER.with_borrow(|listener| {
                if let (Some(host), Some(listener)) = (hosts.last(), listener) {
                    listener(host, &point);
                }
            });
        });
    }
}

/// Picks one text field.
struct Text {
    field: &'static str,
    found: Option<String>,
}

impl Text {
    fn named(field: &'static str) -> Self {
        Self { field, found: None }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.field {
            self.found = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == self.field {
            self.found = Some(format!("{value:?}"));
        }
    }
}
