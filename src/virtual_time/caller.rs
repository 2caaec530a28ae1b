//! A caller: sends its call, reads the answer or leaves, and judges what it got.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::World;
use super::entrance::Link;
use super::identity;
use super::ledger::{End, Seen};
use super::plan::Plan;
use super::provider::Fate;
use super::waiting;

/// Comments before an answer that was begun before it was there.
const COMMENT: &[u8] = b": keepalive\n\n";

/// What the gateway says for itself.
const CODES: [&str; 5] = [
    "budget_exceeded",
    "provider_unreachable",
    "overloaded",
    "bad_request",
    "no_route",
];

/// What a caller received so far.
#[derive(Default)]
struct Received {
    head: Option<(StatusCode, HeaderMap, Instant)>,
    content: Option<Instant>,
    body: BytesMut,
    broken: bool,
}

fn request(plan: &Plan, http2: bool) -> Request<Full<Bytes>> {
    let path = format!("/{}/v1/chat/completions", plan.lane.name);
    let uri = if http2 {
        format!("http://gateway{path}")
    } else {
        path
    };
    let mut builder = Request::post(uri)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer key-{}", plan.key))
        .header(identity::CALL, plan.call);
    builder = match (plan.respond_async, plan.wait) {
        (true, Some(wait)) => builder.header("prefer", format!("respond-async, wait={wait}")),
        (true, None) => builder.header("prefer", "respond-async"),
        (false, _) => builder,
    };
    if let Some(budget) = plan.budget {
        builder = builder.header("x-shunt-budget", format!("{budget}ms"));
    }
    if let Some(patience) = plan.patience {
        builder = builder.header("x-stainless-read-timeout", patience);
    }
    let body = Full::new(identity::request(plan.call, plan.streamed));
    builder.body(body).unwrap()
}

async fn read(mut body: Incoming, received: &mut Received) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            received.broken = true;
            return;
        };
        if let Some(data) = frame.data_ref() {
            received.body.extend_from_slice(data);
            let comments = |all: &[u8]| all.iter().all(|byte| COMMENT.contains(byte));
            if received.content.is_none() && !comments(data) {
                received.content = Some(Instant::now());
            }
        }
    }
}

async fn exchange(link: &mut Link, request: Request<Full<Bytes>>, received: &mut Received) {
    match link.send(request).await {
        Err(_) => received.broken = true,
        Ok(response) => {
            let (head, body) = response.into_parts();
            received.head = Some((head.status, head.headers, Instant::now()));
            read(body, received).await;
        }
    }
}

/// Makes one call, and follows its job if it becomes one.
pub async fn call(world: World, plan: Plan) {
    let Some(mut link) = world.entrance.link(plan.http2).await else {
        return;
    };
    let sent = Instant::now();
    let mut received = Received::default();
    let stays = exchange(&mut link, request(&plan, plan.http2), &mut received);
    let left = tokio::select! {
        biased;
        () = stays => false,
        () = async { sleep(plan.leaves.unwrap()).await }, if plan.leaves.is_some() => true,
    };
    let ended = Instant::now();
    if left {
        link.leave();
    } else {
        tokio::task::yield_now().await;
        world.entrance.give_back(link);
    }
    let end = if left {
        End::Left
    } else {
        judge(&world, &plan, &received)
    };
    let header = |name: &str| {
        let (_, headers, _) = received.head.as_ref()?;
        Some(headers.get(name)?.to_str().ok()?.to_owned())
    };
    let (target, attempts) = (header("x-shunt-target"), header("x-shunt-attempts"));
    let location = header("location");
    let job = matches!(end, End::Job(_));
    let seen = Seen {
        sent,
        head: received
            .head
            .as_ref()
            .map(|(status, _, at)| (status.as_u16(), *at)),
        target,
        attempts: attempts.and_then(|text| text.parse().ok()),
        content: received.content,
        ended,
        end,
        plan: plan.clone(),
    };
    world.ledger.book().seen.insert(plan.call, seen);
    if let (true, Some(location)) = (job, location) {
        waiting::follow(&world, &plan, location).await;
    }
}

/// How the call ended; bytes that are not its own are a fault.
fn judge(world: &World, plan: &Plan, received: &Received) -> End {
    let Some((status, headers, _)) = &received.head else {
        return End::Broken;
    };
    if matches!(status.as_u16(), 202 | 303) {
        let location = headers
            .get("location")
            .and_then(|value| value.to_str().ok());
        let job = location.and_then(|path| path.strip_prefix("/jobs/")?.split('/').next());
        if job.is_none() {
            world
                .ledger
                .fault(format!("call {}: {status} without a job", plan.call));
        }
        return job.map_or(End::Broken, |job| End::Job(job.to_owned()));
    }
    let mut body = &received.body[..];
    while let Some(rest) = body.strip_prefix(COMMENT) {
        body = rest;
    }
    let target = headers.get("x-shunt-target");
    if let Err(why) = belongs(
        world,
        plan,
        *status,
        body,
        received.broken,
        target.is_some(),
    ) {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        world
            .ledger
            .fault(format!("call {}: {why}: {status} {text}", plan.call));
    }
    if received.broken {
        End::Broken
    } else {
        End::Answered
    }
}

/// Whether these bytes may be this call's answer.
fn belongs(
    world: &World,
    plan: &Plan,
    status: StatusCode,
    body: &[u8],
    broken: bool,
    provider: bool,
) -> Result<(), &'static str> {
    let whole = identity::answer(plan.call, plan.streamed);
    let refusal = identity::refusal(plan.call);
    if provider && status != 200 {
        return match (broken, body == refusal, refusal.starts_with(body)) {
            (_, true, _) | (true, _, true) => Ok(()),
            _ => Err("it is no refusal of its own"),
        };
    }
    if !provider && (status != 200 || !body.starts_with(&whole[..whole.len().min(30)])) {
        return own(body, &refusal, broken);
    }
    if body == whole {
        return Ok(());
    }
    let book = world.ledger.book();
    let mut fates = book.fates(plan.call);
    if body == identity::error_event(plan.call) && fates.any(|fate| fate == Fate::TellsError) {
        return Ok(());
    }
    let allowed = broken || book.fates(plan.call).any(Fate::seems_whole);
    if allowed && whole.starts_with(body) {
        return Ok(());
    }
    Err("its answer is not its own, or not whole")
}

/// An answer of the gateway's own, or a provider's told as an event.
fn own(body: &[u8], refusal: &[u8], broken: bool) -> Result<(), &'static str> {
    if broken && body.is_empty() {
        return Ok(());
    }
    let event = body.strip_prefix(b"data: ");
    let told: Value = serde_json::from_slice(event.unwrap_or(body)).unwrap_or_default();
    let code = told["error"]["code"].as_str();
    let known = code.is_some_and(|code| CODES.contains(&code));
    let refused = serde_json::from_slice::<Value>(refusal).unwrap_or_default();
    let unreadable = told["error"]["message"]
        .as_str()
        .is_some_and(|text| text.starts_with("the provider answered with status"));
    if known || told == refused || unreadable {
        return Ok(());
    }
    Err("it is neither its own nor the gateway's")
}
