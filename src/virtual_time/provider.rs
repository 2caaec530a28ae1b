//! A simulated provider in memory: what it does with a call is drawn from the seed, the call and
//! how often it was sent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::identity;
use super::ledger::{Ledger, Open};
use super::liar::{self, Lie};
use crate::simulate::Distribution;
use crate::simulate::body::{BrokenOff, End, Script, Step};
use crate::tasks::Tasks;
use crate::upstream::connect::Connector;

/// What a provider does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A whole answer.
    Answers,
    /// A whole answer at once; never drawn.
    AnswersSoon,
    /// A whole answer, after all budgets; never drawn.
    AnswersLate,
    /// Nothing, ever.
    Stalls,
    /// The connection or stream breaks before any byte.
    BreaksBefore,
    /// It breaks within the answer.
    BreaksWithin,
    /// The answer stops within, and nothing more comes.
    StopsWithin,
    /// The answer ends within, as if it were whole.
    EndsWithin,
    /// A stream whose first event is an error; else a 500.
    TellsError,
    /// A status that is tried again, and `Retry-After`.
    Refuses(u16, Option<u8>),
    /// A status whose body stops within.
    RefusesAndStops(u16),
    /// What is no HTTP, or says what is not so.
    Lies(Lie),
}

impl Fate {
    /// Whether an answer is sent to its end.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Answers | Self::AnswersSoon | Self::AnswersLate => true,
            Self::Lies(lie) => lie.is_whole(),
            _ => false,
        }
    }

    /// Whether an answer seems whole that is not.
    pub fn seems_whole(self) -> bool {
        matches!(self, Self::EndsWithin | Self::Lies(Lie::Short))
    }
}

/// How long a provider is down.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// From.
    pub from: Instant,
    /// Until.
    pub until: Instant,
    /// What it answers meanwhile, with which `Retry-After`; `None`: it cannot be reached.
    pub says: Option<(u16, Option<u8>)>,
}

/// A provider.
pub struct Provider {
    index: usize,
    seed: u64,
    ledger: Ledger,
    tasks: Tasks,
    outage: Option<Outage>,
    /// What it does with each sending of a call, in turn; drawn where there is none.
    fates: &'static [Fate],
    network: Mutex<StdRng>,
    /// It lies on some connections.
    lies: AtomicBool,
    /// Connections that were opened.
    opened: AtomicU64,
}

/// The faults in a hundred calls: what is left are answers.
fn draw_fate(random: &mut StdRng) -> Fate {
    match random.random_range(0..200) {
        0..4 => Fate::Stalls,
        4..8 => Fate::BreaksBefore,
        8..12 => Fate::BreaksWithin,
        12..15 => Fate::StopsWithin,
        15..17 => Fate::EndsWithin,
        17..21 => Fate::Refuses(429, Some(random.random_range(1..4))),
        21..24 => Fate::Refuses(500, None),
        24..27 => Fate::Refuses(503, Some(1)),
        27..29 => Fate::Refuses(529, None),
        29..31 => Fate::TellsError,
        31..32 => Fate::Refuses(400, None),
        32..34 => Fate::RefusesAndStops(500),
        34..36 => Fate::RefusesAndStops(400),
        _ => Fate::Answers,
    }
}

pub fn draw_latency(random: &mut StdRng) -> Duration {
    let distribution = match random.random_range(0..100) {
        0..4 => Distribution::Pareto(1.0, 0.9),
        _ => Distribution::Lognormal(0.2, 0.6),
    };
    distribution.draw(random).min(Duration::from_mins(5))
}

impl Provider {
    /// A provider; `index` counts from 0.
    pub fn new(
        index: usize,
        seed: u64,
        ledger: Ledger,
        tasks: Tasks,
        outage: Option<Outage>,
        fates: &'static [Fate],
    ) -> Arc<Self> {
        let network = StdRng::seed_from_u64(seed ^ index as u64);
        Arc::new(Self {
            index,
            seed,
            ledger,
            tasks,
            outage,
            fates,
            network: Mutex::new(network),
            lies: AtomicBool::new(false),
            opened: AtomicU64::new(0),
        })
    }

    /// It lies on some connections from now on; only over HTTP/1.1.
    pub fn lies(&self) {
        self.lies.store(self.index != 1, Ordering::Relaxed);
    }

    fn outage(&self) -> Option<Outage> {
        let now = Instant::now();
        self.outage
            .filter(|outage| outage.from <= now && now < outage.until)
    }

    fn is_down(&self) -> bool {
        self.outage().is_some_and(|outage| outage.says.is_none())
    }

    /// Resolves when it goes down.
    async fn goes_down(&self) {
        match self.outage {
            Some(outage) if outage.says.is_none() && Instant::now() < outage.from => {
                sleep_until(outage.from).await;
            }
            _ => std::future::pending().await,
        }
    }

    async fn connect(self: Arc<Self>) -> io::Result<DuplexStream> {
        let _counted = self.ledger.connecting();
        let (chance, wait, size) = {
            let mut random = self.network.lock().unwrap_or_else(PoisonError::into_inner);
            let size = [64, 512, 8 << 10, 64 << 10][random.random_range(0..4)];
            (
                random.random_range(0..200),
                random.random_range(0..40),
                size,
            )
        };
        let opened = self.opened.fetch_add(1, Ordering::Relaxed);
        let wait = match chance {
            0 => std::future::pending().await,
            1..4 => Duration::from_millis(wait * 50),
            _ => Duration::from_millis(wait),
        };
        sleep(wait).await;
        if self.is_down() || chance == 4 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(size);
        if self.lies.load(Ordering::Relaxed) && (5..35).contains(&chance) {
            let random = StdRng::seed_from_u64(self.seed ^ (opened << 8));
            let lying = liar::serve(self.ledger.clone(), self.index, random, theirs);
            let provider = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = lying => {}
                    () = provider.goes_down() => {}
                }
            });
            return Ok(ours);
        }
        self.tasks.spawn(self.clone().serve(theirs));
        Ok(ours)
    }

    async fn serve(self: Arc<Self>, stream: DuplexStream) {
        let provider = self.clone();
        let service = service_fn(move |request| provider.clone().answer(request));
        let builder = Builder::new(self.tasks.clone());
        tokio::select! {
            _ = builder.serve_connection(TokioIo::new(stream), service) => {}
            () = self.goes_down() => {}
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, BrokenOff> {
        let (parts, body) = request.into_parts();
        let number = parts.headers.get(identity::CALL);
        let number = number.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let Some(call) = number else {
            self.ledger.fault("a call came without its number".into());
            return Err(BrokenOff);
        };
        let nth = self.ledger.book().fates(call).count();
        let mixed = self.seed ^ (call << 8 | nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = StdRng::seed_from_u64(mixed);
        let drawn = draw_fate(&mut random);
        let fate = self.fates.iter().cycle().nth(nth).copied().unwrap_or(drawn);
        let says = self.outage().and_then(|outage| outage.says);
        let fate = says.map_or(fate, |(status, rest)| Fate::Refuses(status, rest));
        let open = self.ledger.begin(call, self.index, fate);
        let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes();
        let streamed = body == identity::request(call, true);
        if !streamed && body != identity::request(call, false) {
            self.ledger
                .fault(format!("call {call}: its request holds other bytes"));
        }
        match fate {
            Fate::Stalls => std::future::pending().await,
            Fate::BreaksBefore => {
                sleep(draw_latency(&mut random)).await;
                Err(BrokenOff)
            }
            Fate::AnswersLate => {
                sleep(Duration::from_secs(5)).await;
                Ok(respond(call, streamed, fate, &mut random, open))
            }
            _ => Ok(respond(call, streamed, fate, &mut random, open)),
        }
    }
}

/// What is sent of an answer.
fn cut(mut pieces: Vec<Bytes>, fate: Fate, random: &mut StdRng) -> Vec<Bytes> {
    match fate {
        Fate::RefusesAndStops(_) => pieces = vec![pieces[0].slice(..8)],
        Fate::EndsWithin | Fate::BreaksWithin | Fate::StopsWithin => {
            pieces.truncate(random.random_range(0..pieces.len()));
        }
        _ => {}
    }
    pieces
}

/// The steps of an answer, and its status.
fn respond(
    call: u64,
    streamed: bool,
    fate: Fate,
    random: &mut StdRng,
    open: Open,
) -> Response<Answer> {
    let refused = match fate {
        Fate::Refuses(status, rest) => Some((status, rest)),
        Fate::RefusesAndStops(status) => Some((status, None)),
        Fate::TellsError if !streamed => Some((500, None)),
        _ => None,
    };
    let pieces = match refused {
        Some(_) => vec![identity::refusal(call)],
        None if fate == Fate::TellsError => vec![identity::error_event(call)],
        None => identity::pieces(call, streamed),
    };
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let end = match fate {
        Fate::BreaksWithin => End::Reset,
        Fate::StopsWithin | Fate::RefusesAndStops(_) => End::Stall,
        _ => End::Complete,
    };
    let pieces = cut(pieces, fate, random);
    let declares = !streamed && fate != Fate::EndsWithin && random.random::<bool>();
    let gap = Distribution::Lognormal(0.03, 1.0);
    let step = |(at, bytes)| Step {
        after: match at {
            _ if fate == Fate::AnswersSoon => Duration::from_millis(20),
            0 if streamed => Duration::from_millis(random.random_range(0..50)),
            1 if streamed => draw_latency(random),
            0 => draw_latency(random),
            _ => gap.draw(random),
        },
        bytes,
        token: false,
    };
    let steps = pieces.into_iter().enumerate().map(step).collect();
    let length = declares.then_some(length as u64);
    let mut response = Response::new(Answer(Script::new(steps, None, end, length), Some(open)));
    let kind = match refused {
        None if streamed => "text/event-stream",
        _ => "application/json",
    };
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(kind));
    headers.insert(identity::CALL, call.into());
    if let Some((status, rest)) = refused {
        if let Some(rest) = rest {
            headers.insert("retry-after", u64::from(rest).into());
        }
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
    }
    response
}

/// An answer on its way; the call runs as long as it is there or not sent to its end.
pub struct Answer(Script, Option<Open>);

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let next = Pin::new(&mut self.0).poll_frame(context);
        let ended = self.0.is_end_stream() || matches!(next, Poll::Ready(None));
        if let Some(open) = self.1.take_if(|_| ended) {
            open.done();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The way to the providers: the last number of the address says which.
pub fn connector(providers: [Arc<Provider>; 3]) -> Connector {
    Arc::new(move |host: &str, _| {
        let index = match host {
            "10.0.0.1" => 0,
            "10.0.0.2" => 1,
            _ => 2,
        };
        Box::pin(providers[index].clone().connect())
    })
}

/// Their names.
pub const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
