//! What is told where a value has the wrong type: what is wanted, and how it is written.
//!
//! Promises: no name of a type of Rust's, and nothing of the value that stands there: it may be a
//! secret.

/// serde's words about the value of a key as a sentence.
pub(super) fn wanted(key: &str, message: &str) -> String {
    let text = message.lines().collect::<Vec<_>>().join(", ");
    let of_serde = ["invalid type: ", "invalid value: ", "invalid length "];
    if of_serde.iter().any(|words| text.starts_with(words))
        && let Some((_, expected)) = text.rsplit_once(", expected ")
    {
        return is_wanted(&what(key, expected));
    }
    if text == "invalid socket address syntax" {
        return is_wanted(&what(key, "socket address"));
    }
    if text.contains(" string or table") {
        return "one of its words is wanted, in quotes; config/reference.toml has them".into();
    }
    text
}

/// The thing that serde expects, then how it is written.
fn what(key: &str, expected: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let name = name.split('[').next().unwrap_or(name);
    match expected {
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number from 0".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "path string" if key.ends_with(']') => "text in quotes".into(),
        "a string" | "path string" => format!("text in quotes: {name} = \"…\""),
        "socket address" => "an address with its port; write \"127.0.0.1:8080\"".into(),
        "a sequence" => format!("a list: {name} = [{}]", entry(name)),
        "a map" => format!("a table: {name} = {}", table(name)),
        _ if expected.starts_with("struct ") => format!("a table: {}", written(key, name)),
        words => words.to_owned(),
    }
}

/// `a list: x = []` as `a list is wanted: x = []`.
fn is_wanted(what: &str) -> String {
    let at = what.find([',', ':', ';']).unwrap_or(what.len());
    let (what, how) = what.split_at(at);
    format!("{what} is wanted{how}")
}

/// How a table of the file is written.
fn written(key: &str, name: &str) -> String {
    match key {
        "" => "[listen], [providers.NAME], [[routes]]".into(),
        _ if !key.contains('.') && !key.contains('[') => format!("[{key}]"),
        _ if key.starts_with("providers.") && key.matches('.').count() == 1 => format!("[{key}]"),
        _ if key.starts_with("routes[") && !key.contains('.') => "[[routes]]".into(),
        _ => format!("{name} = {}", table(name)),
    }
}

/// An example of such a table.
fn table(name: &str) -> &'static str {
    match name {
        "match" => "{ path = \"/v1/*\" }",
        "header" => "{ x-team = \"search*\" }",
        "budget" => "{ first_token = \"5s\", total = \"5s\" }",
        "hedge" => "{ after = \"p95\" }",
        "over_budget" => "{ unasked = \"wait\" }",
        "predict" => "{ floor = 0.05 }",
        "retries" => "{ max = 1 }",
        "cold" => "{ deadline = \"15m\" }",
        "quota" => "{ reserve_for_hot = 0.3 }",
        "concurrency" => "{ mode = \"fixed\", limit = 20 }",
        "caller" => "{ upload = \"1GiB\" }",
        "postgres" => "{ writers = 2 }",
        "tls" | "admin_tls" | "client_cert" => "{ cert = \"cert.pem\", key = \"key.pem\" }",
        "headers" => "{ authorization = { env = \"NAME\" } }",
        "providers" => "{ NAME = { base_url = \"https://api.example.com\" } }",
        _ => "{ … }",
    }
}

/// An example of a list's entry.
fn entry(name: &str) -> &'static str {
    match name {
        "targets" => "\"openai\"",
        "schedule" => "\"5s\", \"5m\"",
        "uncounted" => "\"10.0.0.0/8\"",
        "allow" => "\"https://hooks.example.com/*\"",
        _ => "…",
    }
}
