//! The time of one wake-up, for all that happens in it.

use tokio::time::Instant;

/// Reads the clock once, when it is first asked.
#[derive(Debug, Default)]
pub struct Now(Option<Instant>);

impl Now {
    /// The time.
    pub fn get(&mut self) -> Instant {
        *self.0.get_or_insert_with(Instant::now)
    }
}
