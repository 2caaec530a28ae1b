//! Runs a shared call on when its first caller has left.
//!
//! Promises: the call goes on while somebody holds it, and `retries.keep` longer; then it is
//! cancelled at the provider. Its task belongs to the gateway's calls, so that a drain waits for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;

use http_body::Body as _;
use tokio::time::timeout;

use super::lead::{Begun, Errands, Running};
use super::recording::End;
use crate::hot::relay::{AnswerBody, Worth};
use crate::upstream::incoming::is_over;

/// Hands a call over to a keeper, or cancels it where nobody wants it.
pub(super) fn hand_over(errands: Errands, running: Running) {
    let share = &errands.holder.0;
    let over = share.recording.end().is_some();
    // A server may ask no more for what has passed whole: it only remains to keep it.
    let passed = matches!(&running, Running::Body(body) if is_over(body));
    let unwanted = !passed && errands.keep.is_zero() && share.is_last() && share.give_up();
    share.orphaned.store(!passed, Relaxed);
    // Outside a runtime the process is on its way out.
    let runs = tokio::runtime::Handle::try_current().is_ok();
    if over || unwanted || !runs {
        errands.ended(End::GivenUp);
        return;
    }
    let tasks = errands.gateway.tasks.clone();
    tasks.spawn(keep(errands, running));
}

async fn keep(mut errands: Errands, running: Running) {
    let share = errands.holder.0.clone();
    let patience = errands.keep;
    let forsaken = async {
        loop {
            let left = share.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if !share.is_last() {
                left.await;
            } else if timeout(patience, left).await.is_err() && share.give_up() {
                return;
            }
        }
    };
    let end = tokio::select! {
        biased;
        end = drive(&mut errands, running) => end,
        () = forsaken => End::GivenUp,
    };
    errands.ended(end);
}

async fn drive(errands: &mut Errands, running: Running) -> End {
    let mut body: AnswerBody = match running {
        Running::Body(body) => body,
        Running::Race(racing) => match errands.begin(racing.await) {
            Begun::Shared(response) => response.into_body(),
            Begun::Own(_) => return End::NotTheirs,
        },
    };
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame {
            Ok(frame) => errands.saw(&frame),
            Err(_) => return End::Broken,
        }
    }
    match body.worth() {
        Worth::Failed => return End::Broken,
        Worth::Endless => return End::Endless,
        Worth::Whole => {}
    }
    if let Some(keeping) = errands.keep() {
        keeping.await;
    }
    End::Whole
}
