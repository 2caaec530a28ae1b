//! A caller whose call became a job: it polls or follows redirects until the end, or cancels.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::World;
use super::identity;
use super::ledger::Told;
use super::plan::Plan;
use super::provider::Fate;

/// A job's deadline in `house.toml`, and what may come on top before its caller sees its end.
const LONGEST: Duration = Duration::from_secs(125);

/// What a request to the jobs API may take beyond the time that it asks to wait.
const SLACK: Duration = Duration::from_millis(20);

/// The same where the store is silent (`cold::store::PATIENCE`, written again on purpose).
const SILENCE: Duration = Duration::from_secs(5);

/// How much longer a job may take where clocks are set back.
const SET_BACK: u32 = 8;

type Answer = (u16, HeaderMap, Bytes);

async fn ask(world: &World, plan: &Plan, method: Method, path: &str, wait: u64) -> Option<Answer> {
    let mut link = world.entrance.link(plan.http2).await?;
    let uri = if plan.http2 {
        format!("http://gateway{path}")
    } else {
        path.to_owned()
    };
    let mut builder = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "gateway")
        .header("authorization", format!("Bearer key-{}", plan.key));
    if wait > 0 && !path.contains('?') {
        builder = builder.header("prefer", format!("wait={wait}"));
    }
    let asked = Instant::now();
    let response = link
        .send(builder.body(Full::default()).unwrap())
        .await
        .ok()?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let slack = if world.ill { SLACK + SILENCE } else { SLACK };
    if asked.elapsed() > Duration::from_secs(wait) + slack {
        let took = asked.elapsed();
        world.ledger.fault(format!(
            "call {}: {path} with wait={wait} took {took:?}",
            plan.call
        ));
    }
    tokio::task::yield_now().await;
    world.entrance.give_back(link);
    Some((head.status.as_u16(), head.headers, body))
}

/// Waits for a job's end and looks at its result; a connection that ends is a drain.
pub async fn follow(world: &World, plan: &Plan, location: String) {
    let id = location.trim_start_matches("/jobs/");
    let id = id.split('/').next().unwrap_or_default().to_owned();
    let began = Instant::now();
    let page = format!("/jobs/{id}");
    let waits = async {
        if location.contains("wait=") {
            let mut next = location.clone();
            loop {
                let (status, headers, _) = ask(world, plan, Method::GET, &next, 25).await?;
                if status != 303 {
                    break;
                }
                next = headers.get("location")?.to_str().ok()?.to_owned();
            }
        }
        loop {
            let wait = if plan.call.is_multiple_of(3) { 0 } else { 20 };
            let (_, _, body) = ask(world, plan, Method::GET, &page, wait).await?;
            let job: Value = serde_json::from_slice(&body).ok()?;
            if job["finished_at"].is_string() {
                return Some(job);
            }
            let longest = LONGEST * if world.ill { SET_BACK } else { 1 };
            if began.elapsed() > longest {
                let text = format!("call {}: its job {id} does not end: {job}", plan.call);
                world.ledger.fault(text);
                return None;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let patience = plan.cancels.unwrap_or(Duration::from_hours(1));
    let job = match timeout(patience, waits).await {
        Ok(job) => job,
        Err(_) => cancel(world, plan, &page).await,
    };
    if let Some(job) = job {
        told(world, plan, id, &job).await;
    }
}

async fn cancel(world: &World, plan: &Plan, page: &str) -> Option<Value> {
    let (status, _, body) = ask(world, plan, Method::DELETE, page, 0).await?;
    if world.ill && status == 503 {
        // Whether it is cancelled will be seen; its caller lets it be.
        return None;
    }
    if status != 200 && status != 409 {
        let text = format!("call {}: its job is not cancelled: {status}", plan.call);
        world.ledger.fault(text);
    }
    let (told, _, now) = ask(world, plan, Method::GET, page, 0).await?;
    if world.ill && told == 503 {
        return None;
    }
    let job: Value = serde_json::from_slice(&now).ok()?;
    if status == 200 && job["status"] != "cancelled" {
        let text = format!("call {}: cancelled, and then {job}", plan.call);
        world.ledger.fault(text);
    }
    drop(body);
    Some(job)
}

/// Reads the result of a job that ended.
async fn told(world: &World, plan: &Plan, id: String, job: &Value) {
    let page = format!("/jobs/{id}/result");
    let (status, headers, body) = loop {
        match ask(world, plan, Method::GET, &page, 0).await {
            None => return,
            Some((503, ..)) if world.ill => sleep(Duration::from_secs(1)).await,
            Some(told) => break told,
        }
    };
    let succeeded = job["status"] == "succeeded";
    // What a provider ended early, as if it were whole, is an answer for all that can be known.
    let early = (world.ledger.book().fates(plan.call)).any(Fate::seems_whole);
    let whole = identity::answer(plan.call, plan.streamed);
    let own = body == whole || early && whole.starts_with(&body);
    let number = headers
        .get(identity::CALL)
        .and_then(|value| value.to_str().ok());
    let number = number.and_then(|text| text.parse::<u64>().ok());
    if succeeded && !(own && status == 200 && number == Some(plan.call)) {
        let text = format!(
            "call {}: the result of {id} is not its own: {status}",
            plan.call
        );
        world.ledger.fault(text);
    }
    if !succeeded && status < 400 {
        let text = format!(
            "call {}: {id} is told to have ended and has {status}",
            plan.call
        );
        world.ledger.fault(text);
    }
    let refusal = identity::refusal(plan.call);
    if !succeeded && number.is_some() && body != refusal {
        let text = format!("call {}: the refusal of {id} is not its own", plan.call);
        world.ledger.fault(text);
    }
    let told = Told {
        status: job["status"].as_str().unwrap_or_default().to_owned(),
        attempts: job["attempts"]
            .as_u64()
            .map_or(0, |count| usize::try_from(count).unwrap()),
        result: (status, body.to_vec()),
    };
    world.ledger.book().told.insert(id, told);
}
