//! Waiting for conditions, always with an end.

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What a future yields, within [`PATIENCE`].
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let patient = tokio::time::timeout(PATIENCE, future).await;
    patient.unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
}

/// Asks again and again until there is an answer, for at most [`PATIENCE`]. `what` says what is waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match tokio::time::timeout_at(end.into(), look()).await {
            Ok(Some(value)) => return value,
            Ok(None) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            _ => panic!("{what}: not within {PATIENCE:?}"),
        }
    }
}
