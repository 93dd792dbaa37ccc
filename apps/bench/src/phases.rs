//! Where the time of a step goes: sums over the engine's spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, field};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// What was seen since the last [`Phases::take`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Seconds by span name.
    pub seconds: BTreeMap<&'static str, f64>,
    /// Number of events by message.
    pub events: BTreeMap<String, usize>,
}

/// Sums seconds of spans and counts events; clones share the sums.
#[derive(Clone, Debug, Default)]
pub struct Phases(Arc<Mutex<Seen>>);

impl Phases {
    /// The sums so far, which start again at zero.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Message<'a>(&'a mut String);

impl field::Visit for Message<'_> {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Phases {
    fn on_new_span(&self, _attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Instant::now());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let began = span.extensions().get::<Instant>().copied();
        if let Some(began) = began {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.seconds.entry(span.name()).or_default() += began.elapsed().as_secs_f64();
        }
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = String::new();
        event.record(&mut Message(&mut message));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).events.entry(message).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn spans_are_summed_and_events_counted_until_taken() {
        let phases = Phases::default();
        let subscriber = tracing_subscriber::registry().with(phases.clone());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..3 {
                tracing::trace_span!("forward").in_scope(|| std::thread::sleep(std::time::Duration::from_millis(2)));
                tracing::trace!("read");
            }
        });
        let seen = phases.take();
        assert!(seen.seconds["forward"] >= 0.006, "{seen:?}");
        assert_eq!(seen.events["read"], 3);
        assert_eq!(phases.take(), Seen::default());
    }
}
