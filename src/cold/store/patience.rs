//! How long a page waits for a store.

use std::time::Duration;

use super::StoreError;

/// Longest that a page waits for the store.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A page that waits so long for something else than the store, and for the store no longer than
/// `PATIENCE`, however often it asks.
pub async fn page<T, E>(
    wait: Duration,
    page: impl Future<Output = Result<T, E>>,
    refuse: impl FnOnce(&StoreError) -> E,
) -> Result<T, E> {
    let told = tokio::time::timeout(wait + PATIENCE, page).await;
    told.unwrap_or_else(|_| Err(refuse(&StoreError::Silent)))
}

/// What the store says, or that it says nothing.
pub async fn asked<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let seconds = PATIENCE.as_secs();
    let silent = || StoreError::Unavailable(format!("it did not answer within {seconds} s"));
    let told = tokio::time::timeout(PATIENCE, answer).await;
    told.unwrap_or_else(|_| Err(silent()))
}
