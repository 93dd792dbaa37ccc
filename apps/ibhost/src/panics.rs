//! Remembers what a panic said and where, for the message on stderr and the summary of the run it ended.

use std::sync::{Mutex, PoisonError};

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Lets every panic of the process be remembered, and printed as before.
pub fn remember() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let message = info.payload_as_str().unwrap_or("no message");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("panic at {place}: {message}"));
        print(info);
    }));
}

/// What the latest panic said.
pub fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
