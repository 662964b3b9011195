//! The terminal: taken over, drawn on, and given back whatever happens.

use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use quipu_sdk::{Client, Environment, RequestError};
use ratatui::DefaultTerminal;

use super::super::failure::{Failure, with_causes};
use super::super::signals::Signals;
use super::history::History;
use super::sample::{Sample, Sampler};
use super::ui::{Ui, Wish};
use super::view::{Palette, View};

/// The clock on the screen goes on though nothing comes.
const REDRAW: Duration = Duration::from_secs(1);

/// A terminal that is ours. A panic gives it back as well: see
/// [`ratatui::try_init`].
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn take() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // Half of it may have been taken.
                ratatui::restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// A sampler, and what it came back with.
type Sampled = (Sampler, Result<Sample, RequestError>);

/// Draws until the user, or a signal, ends it.
pub(super) async fn run(
    client: Client,
    environment: &Environment,
    interval: Duration,
    mut ui: Ui,
    palette: Palette,
) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::system("draw on the terminal", &error);
    let clock = &environment.clock;
    let mut signals = Signals::listen().map_err(|error| Failure::system("listen for signals", &error))?;
    let mut screen = Screen::take().map_err(broken)?;
    let mut events = EventStream::new();
    let mut history = History::default();
    let mut sampler = Sampler::new(client, environment.clone());
    let mut sampling = ask(sampler.clone(), environment, Duration::ZERO, &ui);
    loop {
        let view = View { history: &history, ui: &ui, now: clock.monotonic(), interval, palette };
        screen.terminal.draw(|frame| frame.render_widget(&view, frame.area())).map_err(broken)?;
        let page = view.page(screen.terminal.size().map_err(broken)?);
        tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    match ui.key(key, history.figures(), page) {
                        Wish::Quit => return Ok(()),
                        Wish::Draw => {}
                        // What is under way asks for other logs.
                        Wish::Ask => sampling = ask(sampler.clone(), environment, Duration::ZERO, &ui),
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                // The terminal is gone.
                None => return Ok(()),
            },
            (asked, sampled) = &mut sampling, if !ui.paused => {
                sampler = asked;
                match sampled {
                    Ok(sample) => history.take_in(sample),
                    Err(error) if error.is_retryable() => history.missed(clock.monotonic(), with_causes(&error)),
                    Err(error) => return Err(error.into()),
                }
                sampling = ask(sampler.clone(), environment, interval, &ui);
            }
            () = clock.sleep(REDRAW) => {}
        }
    }
}

/// Takes a sample after `pause`.
fn ask(mut sampler: Sampler, environment: &Environment, pause: Duration, ui: &Ui) -> LocalBoxFuture<'static, Sampled> {
    let (clock, filter) = (environment.clock.clone(), ui.filter().to_owned());
    Box::pin(async move {
        clock.sleep(pause).await;
        let sampled = sampler.sample(&filter).await;
        (sampler, sampled)
    })
}
