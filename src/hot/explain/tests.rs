use super::*;
use crate::config;
use crate::server::dry;

const FILE: &str = r#"
[providers.a]
base_url = "https://a.example/base"
dialect  = "openai"
[providers.b]
base_url = "http://b.example"
dialect  = "openai"
[[routes]]
name    = "claude"
match   = { path = "/v1/chat/completions", model = "claude-*" }
targets = ["a"]
[[routes]]
name    = "team"
match   = { path = "/v1/chat/completions", header = { x-team = "search*" } }
targets = ["a"]
[[routes]]
name    = "chat"
match   = { path = "/v1/chat/completions", model = "gpt-4o*" }
targets = ["a", { provider = "b", weight = 0, model = "other" }]
budget  = { first_token = "2s", total = "10s" }
hedge   = { after = "p95" }
[[routes]]
name    = "rest"
match   = { path = "/v1/*" }
targets = ["b"]
over_budget = { unasked = "wait" }
"#;

async fn told(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let config = config::parse(FILE, "shunt.toml").unwrap();
    let (state, door) = dry(&config).unwrap();
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("host", "gateway");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap();
    match explain(state, &door, request).await {
        Ok(plan) => plan.map_or("its own".into(), |plan| plan.to_string()),
        Err(turned) => format!("{} {} {:?}", turned.code, turned.message, turned.passed),
    }
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_call_is_told_its_route_its_terms_and_what_passed_it_over() {
    let body = r#"{"model":"gpt-4o-mini","stream":true}"#;
    insta::assert_snapshot!(told("POST", CHAT, &[("prefer", "respond-async")], body).await);
}

#[tokio::test]
async fn what_the_caller_says_changes_the_terms() {
    let body = r#"{"model":"gpt-4o"}"#;
    let budget = told("POST", CHAT, &[("x-shunt-budget", "800ms")], body).await;
    assert!(
        budget.contains("800ms to the last byte: the caller's X-Shunt-Budget"),
        "{budget}"
    );
    assert!(
        budget.contains("504 budget_exceeded: the caller asks for no job"),
        "{budget}"
    );
    let wait = told("POST", CHAT, &[("prefer", "respond-async, wait=1")], body).await;
    assert!(
        wait.contains("1s to the last byte: the caller's Prefer: wait"),
        "{wait}"
    );
    let at_once = told("POST", CHAT, &[("prefer", "respond-async, wait=0")], body).await;
    assert!(
        at_once.contains("budget    none: the caller wants a job at once"),
        "{at_once}"
    );
    let sdk = told("POST", CHAT, &[("x-stainless-timeout", "4")], body).await;
    assert!(
        sdk.contains("3.6s to the last byte: the caller's SDK"),
        "{sdk}"
    );
    let stored = told("POST", CHAT, &[], r#"{"model":"gpt-4o","store":true}"#).await;
    assert!(stored.contains("hedge     none: sent twice"), "{stored}");
    let team = told("POST", CHAT, &[("x-team", "search-1")], body).await;
    assert!(team.starts_with("team takes"), "{team}");
}

#[tokio::test]
async fn a_provider_takes_calls_under_its_name_and_the_gateway_its_own() {
    let named = told("GET", "/b/x?y=1", &[], "").await;
    assert!(
        named.starts_with("b takes") && named.contains("http://b.example/x?y=1"),
        "{named}"
    );
    assert_eq!(told("GET", "/jobs/job_1", &[], "").await, "its own");
}

#[tokio::test]
async fn a_call_that_would_be_refused_is_told_what_its_caller_is() {
    let none = told("POST", "/v2/x", &[], r#"{"model":"m"}"#).await;
    assert!(none.starts_with("no_route no route takes /v2/x"), "{none}");
    assert!(none.contains(r#"("rest", "its path is /v1/*")"#), "{none}");
    let broken = told("POST", CHAT, &[], "{").await;
    assert!(
        broken.starts_with("bad_request the body is not JSON"),
        "{broken}"
    );
    let two = told("POST", CHAT, &[("host", "other")], "{}").await;
    assert!(
        two.starts_with("bad_request the call has several Host"),
        "{two}"
    );
    let hook = told(
        "POST",
        CHAT,
        &[("x-shunt-callback", "https://a.example/")],
        "{}",
    )
    .await;
    assert!(hook.contains("sends no callbacks"), "{hook}");
}

/// Found by one who left `/v1` out of the base URL, and by one whose client sends forms.
#[tokio::test]
async fn a_call_that_no_route_takes_is_told_what_its_sender_can_do() {
    let of = |one: &str| {
        FILE.replace("/v1/*", "/v1/rest")
            .replace("/v1/chat/completions", one)
    };
    let file = of(CHAT).replace("header = { x-team = \"search*\" }", "model = \"search\"");
    let config = config::parse(&file, "shunt.toml").unwrap();
    let told = async |path: &str, kind: &'static str, body: &'static str| {
        let (state, door) = dry(&config).unwrap();
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("host", "gateway");
        let request = request.header("content-type", kind).body(Bytes::from(body));
        let turned = explain(state, &door, request.unwrap()).await.err().unwrap();
        assert_eq!(turned.code, "no_route");
        turned.message
    };
    let json = "application/json";
    let no_model = told(CHAT, json, "{}").await;
    assert!(
        no_model.contains("without a `model`; send a `model` in the body"),
        "{no_model}"
    );
    let form = told(
        CHAT,
        "application/x-www-form-urlencoded",
        r#"{"model":"gpt-4o"}"#,
    )
    .await;
    assert!(
        form.contains("send Content-Type: application/json"),
        "{form}"
    );
    let unknown = told(CHAT, json, r#"{"model":"zzz"}"#).await;
    assert!(
        unknown.contains("with the model `zzz`; send another"),
        "{unknown}"
    );
    let bare = told("/chat/completions", json, "{}").await;
    assert!(
        bare.ends_with("did you mean /v1/chat/completions?"),
        "{bare}"
    );
    for mistyped in [
        "/v1/chat/completion",
        "/v1/v1/chat/completions",
        "/v1/chat/compeltions",
    ] {
        let told = told(mistyped, json, "{}").await;
        assert!(
            told.ends_with("did you mean /v1/chat/completions?"),
            "{told}"
        );
    }
    let page = told("/metrics", json, "{}").await;
    assert!(page.contains("on the admin listener"), "{page}");
    // Nothing takes it there either, or it is no path of an SDK's.
    for path in ["/embeddings", "/rest", "/"] {
        let strange = told(path, json, "{}").await;
        assert!(
            strange.contains("a provider's name, such as /a/…, /b/…;"),
            "{strange}"
        );
    }
    for message in [no_model, form, unknown, bare] {
        assert!(
            !message.contains("claude") && !message.contains("search"),
            "{message}"
        );
    }
}

/// What is told of the routes before is what routing does: none of them takes the call, and the one
/// that does has nothing against it.
#[tokio::test]
async fn what_is_told_of_each_route_is_what_routing_finds() {
    let config = config::parse(FILE, "shunt.toml").unwrap();
    let (state, _) = dry(&config).unwrap();
    let mut team = HeaderMap::new();
    team.insert("x-team", "search".parse().unwrap());
    for path in [CHAT, "/v1/x", "/a/v1/x", "/nowhere"] {
        for headers in [&HeaderMap::new(), &team] {
            for model in [None, Some("gpt-4o"), Some("claude-1"), Some("m")] {
                let table = &state.table;
                let taken = table.taking(path, headers, model).map(|route| &route.name);
                let mut routes = table.routes().iter();
                let free = routes.find(|route| route.why_not(path, headers, model).is_none());
                assert_eq!(
                    taken,
                    free.map(|route| &route.name),
                    "{path} {headers:?} {model:?}"
                );
            }
        }
    }
}

/// What `limits.body` is in these: it is soon reached.
async fn by_model(path: &str, kind: &'static str, body: String) -> String {
    let file = FILE.replace("/v1/chat/completions", "/v1/*");
    let config = config::parse(&format!("[limits]\nbody = \"1KiB\"\n{file}"), "f").unwrap();
    let (state, door) = dry(&config).unwrap();
    let request = Request::builder().method("POST").uri(path);
    let request = request
        .header("host", "gateway")
        .header("content-type", kind);
    let request = request.body(Bytes::from(body)).unwrap();
    match explain(state, &door, request).await {
        Ok(plan) => plan.unwrap().route.name.to_string(),
        Err(turned) => format!("{}: {}", turned.code, turned.message),
    }
}

#[tokio::test]
async fn a_call_whose_model_is_not_read_goes_nowhere_where_a_model_decides() {
    let json = "application/json";
    let padded = format!("{}{{\"model\":\"gpt-4o\"}}", " ".repeat(2_000));
    let told = by_model(CHAT, json, padded.clone()).await;
    assert!(
        told.starts_with("body_too_large: the call's model decides"),
        "{told}"
    );
    for (kind, body) in [
        ("text/plain", r#"{"model":"gpt-4o"}"#.to_owned()),
        ("multipart/form-data; boundary=x", padded),
        (
            "application/x-ndjson",
            "\u{feff}{\"model\":\"gpt-4o\"}\n{}".to_owned(),
        ),
    ] {
        let told = by_model(CHAT, kind, body).await;
        assert!(told.starts_with("not_json: "), "{kind}: {told}");
    }
    // What holds no JSON goes where it went.
    for (kind, body) in [
        ("multipart/form-data; boundary=x", "--x\r\n".repeat(400)),
        ("application/sdp", "v=0\r\n".to_owned()),
        ("text/plain", String::new()),
    ] {
        assert_eq!(by_model("/v1/files", kind, body).await, "rest", "{kind}");
    }
    assert_eq!(
        by_model(CHAT, json, r#"{"model":"gpt-4o"}"#.into()).await,
        "chat"
    );
}
