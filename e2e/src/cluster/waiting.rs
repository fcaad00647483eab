//! Waiting for what must come true.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

/// Asks until the answer is `Ok`, for at most 30 s.
///
/// Errors: `what` did not come true; the last answer says why.
pub async fn eventually<T, F: Future<Output = Result<T>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> Result<T> {
    const LIMIT: Duration = Duration::from_secs(30);
    within(LIMIT, what, ask).await
}

/// As [`eventually`], for at most `limit`.
pub async fn within<T, F: Future<Output = Result<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + limit;
    let mut last: Option<anyhow::Error> = None;
    loop {
        let answer = match tokio::time::timeout_at(deadline, ask()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            // The attempt before it tells more.
            Err(_) => match last.take() {
                Some(error) => error.context("the last attempt did not end, the one before it"),
                None => anyhow::anyhow!("the only attempt did not end"),
            },
        };
        if Instant::now() >= deadline {
            return Err(answer.context(format!("waited {} s in vain for {what}", limit.as_secs())));
        }
        last = Some(answer);
        tokio::time::sleep(PAUSE).await;
    }
}
