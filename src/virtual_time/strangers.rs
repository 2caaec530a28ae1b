//! Callers without credentials are strangers to each other: a job's id is the right to it, and nothing
//! tells it but the answer to its call.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

use super::identity;
use super::provider::Fate;
use super::{PLAIN, Scene};

async fn send(scene: &Scene, request: http::request::Builder, body: Bytes) -> (u16, Value) {
    let mut link = scene.world.entrance.link(false).await.unwrap();
    let request = request.header("host", "gateway").body(Full::new(body));
    let answer = link.send(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Makes a job in the scope `s`; gives its id.
async fn job(scene: &Scene, key: Option<&str>) -> String {
    let mut request = Request::post("/demoting/v1/chat/completions")
        .header("content-type", "application/json")
        .header("prefer", "respond-async, wait=0")
        .header("x-shunt-scope", "s")
        .header(identity::CALL, 1);
    if let Some(key) = key {
        request = request.header("authorization", key);
    }
    let (status, told) = send(scene, request, identity::request(1, false)).await;
    assert_eq!(status, 202, "{told}");
    told["id"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_credentials_lists_nothing() {
    let scene = Scene::open(PLAIN, &[Fate::Stalls]).await;
    let get = async |path: &str, key: Option<&str>| {
        let request = Request::get(path);
        let request = match key {
            Some(key) => request.header("authorization", key),
            None => request,
        };
        send(&scene, request, Bytes::new()).await
    };
    let open = job(&scene, None).await;
    let mine = job(&scene, Some("Bearer me")).await;

    let (_, told) = get("/jobs", None).await;
    assert_eq!(told["data"], serde_json::json!([]));
    let (_, told) = get("/jobs", Some("Bearer me")).await;
    assert_eq!(told["data"][0]["id"], *mine);

    // Its scope tells that it runs, and nothing that leads to it.
    let (_, told) = get("/scopes/s", None).await;
    assert_eq!(told["jobs"].as_array().unwrap().len(), 1);
    assert!(!told.to_string().contains(&*open), "{told}");
    let (_, told) = get("/scopes/s", Some("Bearer me")).await;
    assert_eq!(told["jobs"][0]["id"], *mine);

    // Who has the id has the job.
    let (status, told) = get(&format!("/jobs/{open}"), None).await;
    assert_eq!(status, 200);
    assert_eq!(told["id"], *open);
    scene.stop(std::time::Duration::from_secs(1)).await;
}
