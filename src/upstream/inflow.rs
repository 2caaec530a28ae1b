//! A caller's body as it comes, within its bounds.
//!
//! Promises: it is never longer than `limits.caller.upload`; a caller that stops sending, or sends
//! more slowly than `body_rate`, is noticed. Only time in which the caller is waited for counts: a
//! provider that takes its time costs a caller nothing. A body that is there costs no timer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Caller;

/// What is wrong with a caller's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It broke off, or its framing is wrong.
    #[error("the body broke off, or its framing is wrong")]
    Broken,
    /// The caller stopped sending, or sends too slowly.
    #[error("the body came too slowly: see limits.caller.body_idle and body_rate")]
    TooSlow,
    /// It is longer than may be.
    #[error("the body is longer than limits.caller.upload")]
    TooLarge,
}

/// What became of a body that another owns by now.
#[derive(Clone, Debug, Default)]
pub struct Fate(Arc<AtomicU8>);

/// Stands in a `Fate` for a body that was read to its end.
const WHOLE: u8 = u8::MAX;

impl Fate {
    fn is(&self, fault: Fault) {
        self.0.store(fault as u8 + 1, Ordering::Relaxed);
    }

    /// What is wrong with it, if anything is.
    pub fn fault(&self) -> Option<Fault> {
        let all = [Fault::Broken, Fault::TooSlow, Fault::TooLarge];
        let told = self.0.load(Ordering::Relaxed);
        all.into_iter().find(|fault| *fault as u8 + 1 == told)
    }

    /// Whether all of it was read.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WHOLE
    }
}

/// A caller's body.
#[derive(Debug)]
pub struct Inflow<B> {
    body: B,
    most: u64,
    idle: Duration,
    rate: u32,
    received: u64,
    /// Time in which the caller was waited for, and since when it is.
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    fate: Option<Fate>,
}

impl<B: Body<Data = Bytes> + Unpin> Inflow<B> {
    /// A body within these bounds.
    pub fn new(body: B, bounds: &Caller) -> Self {
        Self {
            body,
            most: bounds.upload.0,
            idle: bounds.body_idle.get(),
            rate: bounds.body_rate,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            timer: None,
            fate: None,
        }
    }

    fn note_end(&self) {
        if let Some(fate) = &self.fate {
            fate.0.store(WHOLE, Ordering::Relaxed);
        }
    }

    /// Whether its head announced too much: nothing of it needs to be read.
    pub fn is_too_large(&self) -> bool {
        self.body.size_hint().lower() > self.most
    }

    /// How long its caller was waited for so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// What will have become of it.
    pub fn fate(&mut self) -> Fate {
        self.fate.get_or_insert_default().clone()
    }

    fn fault(&self, fault: Fault) -> Fault {
        if let Some(fate) = &self.fate {
            fate.is(fault);
        }
        fault
    }

    /// How long the caller may still be waited for.
    fn allowed(&self) -> Duration {
        if self.rate == 0 {
            return self.idle;
        }
        let earned =
            Duration::from_millis(self.received.saturating_mul(1_000) / u64::from(self.rate));
        let left = (self.idle + earned).saturating_sub(self.waited);
        left.min(self.idle)
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let end = now + self.allowed();
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => self.timer = Some(Box::pin(sleep_until(end))),
            }
        }
        let timer = self.timer.as_mut();
        timer.is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Inflow<B> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(context) else {
            if this.is_late(context) {
                return Poll::Ready(Some(Err(this.fault(Fault::TooSlow))));
            }
            return Poll::Pending;
        };
        if let Some(since) = this.since.take() {
            this.waited += since.elapsed();
        }
        let Some(next) = next else {
            this.note_end();
            return Poll::Ready(None);
        };
        let Ok(frame) = next else {
            return Poll::Ready(Some(Err(this.fault(Fault::Broken))));
        };
        this.received += frame.data_ref().map_or(0, Bytes::len) as u64;
        if this.received > this.most {
            return Poll::Ready(Some(Err(this.fault(Fault::TooLarge))));
        }
        if this.body.is_end_stream() {
            this.note_end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Period, Size};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc;

    const IDLE: Duration = Duration::from_secs(30);

    type Frames = mpsc::UnboundedSender<&'static [u8]>;

    fn body(upload: u64, rate: u32) -> (Frames, Inflow<impl Body<Data = Bytes> + Unpin>) {
        let (send, mut frames) = mpsc::unbounded_channel::<&'static [u8]>();
        let stream = futures_util::stream::poll_fn(move |context| {
            let next = frames.poll_recv(context);
            next.map(|next| next.map(|data| Ok::<_, Fault>(Frame::data(Bytes::from_static(data)))))
        });
        let bounds = Caller {
            upload: Size(upload),
            body_idle: Period::from_secs(IDLE.as_secs()),
            body_rate: rate,
            ..Caller::default()
        };
        (send, Inflow::new(StreamBody::new(stream), &bounds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_or_trickles_is_noticed_and_one_that_pauses_is_not() {
        let (_send, mut silent) = body(1_000, 0);
        let fate = silent.fate();
        let began = Instant::now();
        let told = silent.frame().await.unwrap().unwrap_err();
        assert_eq!((told, fate.fault()), (Fault::TooSlow, Some(Fault::TooSlow)));
        assert_eq!(began.elapsed(), IDLE);

        for (rate, ends) in [(0, None), (10, Some(Fault::TooSlow))] {
            let (send, mut slow) = body(1_000, rate);
            let sending = async move {
                for _ in 0..20 {
                    tokio::time::sleep(IDLE / 3).await;
                    let _ = send.send(b"x");
                }
            };
            let reading = async {
                while let Some(frame) = slow.frame().await {
                    if let Err(fault) = frame {
                        return Some(fault);
                    }
                }
                None
            };
            let ((), told) = tokio::join!(sending, reading);
            assert_eq!(told, ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_is_not_the_callers() {
        let (send, mut body) = body(1_000, 1_000_000);
        for _ in 0..10 {
            send.send(b"x").unwrap();
            tokio::time::sleep(IDLE * 2).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn a_body_is_no_longer_than_it_may_be() {
        let (send, mut body) = body(5, 0);
        send.send(b"12345").unwrap();
        send.send(b"6").unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Fault::TooLarge);
    }

    #[tokio::test]
    async fn a_body_is_whole_once_it_was_read_to_its_end() {
        let (send, mut body) = body(5, 0);
        let fate = body.fate();
        send.send(b"12345").unwrap();
        drop(send);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(!fate.is_whole());
        assert!(body.frame().await.is_none());
        assert_eq!((fate.is_whole(), fate.fault()), (true, None));
    }
}
