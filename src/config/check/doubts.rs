//! What can be meant, and hardly is: a warning, not a mistake.

use super::Found;
use crate::config::load::Problem;
use crate::config::{
    Action, Config, Glob, HedgeAfter, OverBudget, PathPattern, Provider, Route, Unasked,
};

/// Every doubt about a file without mistakes; `stands`: whether it has a key.
pub fn doubts(config: &Config, stands: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    for (name, provider) in &config.providers {
        doubled(name, provider, config, &mut found);
    }
    open(config, &mut found);
    for (at, route) in config.routes.iter().enumerate() {
        let key = format!("routes[{at}]");
        if is_own(&route.matches.path) {
            let says = "no call comes here: what asks for jobs and scopes the gateway answers itself; choose \
                        another path";
            found.add(format!("{key}.match.path"), says);
        }
        // A default is nobody's contradiction.
        if stands(&format!("{key}.budget.first_token")) {
            first_token(&key, route, &mut found);
        }
        hedge(&key, route, &mut found);
        if let Some(earlier) = config.routes[..at]
            .iter()
            .find(|one| takes_all_of(one, route))
        {
            let says = format!(
                "no call comes here: route `{}` stands before it and takes all of its calls; put this one first",
                earlier.name
            );
            found.add(format!("{key}.match"), says);
        }
    }
    found.0
}

/// Whether only the gateway's own pages are on a path.
fn is_own(path: &str) -> bool {
    let own = ["/jobs", "/scopes"];
    own.iter().any(|page| {
        let rest = path.strip_prefix(page);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whoever reaches a gateway that asks for no key spends its operator's.
fn open(config: &Config, found: &mut Found) {
    let listen = &config.listen;
    let mutual = listen
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    let guarded = listen.public.ip().is_loopback() || config.auth.keys.is_some() || mutual;
    let mut providers = config.providers.iter();
    let paid = providers.find(|(_, provider)| provider.api_key.is_some());
    if let Some((name, _)) = paid.filter(|_| !guarded) {
        let says = format!(
            "is not on loopback, and no key is asked for: whoever reaches it spends providers.{name}.api_key; \
             set auth.keys, or listen.tls with a client_ca, or bind 127.0.0.1, unless only its callers reach it"
        );
        found.add("listen.public", says);
    }
}

/// Whether a route takes every call that another would.
fn takes_all_of(route: &Route, other: &Route) -> bool {
    let (ours, theirs) = (&route.matches, &other.matches);
    let paths = [&ours.path, &theirs.path].map(|path| PathPattern::parse(path));
    let [Ok(path), Ok(inner)] = paths else {
        return false;
    };
    let model = match (&ours.model, &theirs.model) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(glob), Some(inner)) => takes_all_texts_of(glob, inner),
    };
    let headers = ours.header.iter().all(|(name, glob)| {
        let mut same = theirs
            .header
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        same.any(|(_, inner)| takes_all_texts_of(glob, inner))
    });
    path.covers(&inner) && model && headers
}

/// The same of globs, where that is plain to see: they are the same, or the other one is a text.
fn takes_all_texts_of(glob: &str, other: &str) -> bool {
    let is_text = !other.contains(['*', '?']);
    glob == "*" || glob == other || is_text && Glob::new(glob).matches(other)
}

/// SDKs have `/v1` in their base URL, the gateway has it in the path of each call.
fn doubled(name: &str, provider: &Provider, config: &Config, found: &mut Found) {
    let uri = provider.base_url.parse::<http::Uri>().ok();
    let path = uri.as_ref().map_or("", |uri| uri.path());
    let path = path.trim_end_matches('/');
    if !path.ends_with("/v1") {
        return;
    }
    let is_target = |route: &&Route| route.targets.iter().any(|one| one.table().provider == name);
    let mut routes = config.routes.iter().filter(is_target).peekable();
    // Without a route it is called as /NAME/v1/…, as its SDK's base URL would have it.
    let by_name = routes.peek().is_none();
    let begins_so = |route: &Route| {
        let pattern = PathPattern::parse(&route.matches.path);
        pattern.is_ok_and(|pattern| pattern.may_begin_with("/v1/"))
    };
    if by_name || routes.any(begins_so) {
        let says = format!(
            "ends in /v1, and the paths that apps call begin with it: they would go to \
             {path}/v1/…; leave /v1 away, unless the provider wants it"
        );
        found.add(format!("providers.{name}.base_url"), says);
    }
}

fn first_token(key: &str, route: &Route, found: &mut Found) {
    let (first, total) = (route.budget.first_token, route.budget.total);
    if first > total {
        let says = format!(
            "{first} is above budget.total ({total}), which bounds the first token of a stream too: \
             it never counts; lower it, or raise the total"
        );
        found.add(format!("{key}.budget.first_token"), says);
    }
}

fn hedge(key: &str, route: &Route, found: &mut Found) {
    let HedgeAfter::Fixed(after) = route.hedge.after else {
        return;
    };
    let total = route.budget.total;
    if after >= total && is_ended(&route.over_budget) {
        let says = format!(
            "{after} is not before budget.total ({total}), which ends each call: none is ever hedged; write \
             \"p95\" or a shorter delay"
        );
        found.add(format!("{key}.hedge.after"), says);
    }
}

/// Whether a call that is over its budget ends there, whoever sent it.
fn is_ended(over: &OverBudget) -> bool {
    match over.action {
        Action::Observe => false,
        Action::Fail => true,
        Action::Demote => over.unasked != Unasked::Wait,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse_with_warnings;

    fn warnings(base_url: &str, path: &str, rest: &str) -> Vec<String> {
        let file = format!(
            "[providers.a]\nbase_url = \"{base_url}\"\n[[routes]]\nname = \"r\"\n\
             match = {{ path = \"{path}\" }}\ntargets = [\"a\"]\n{rest}\n"
        );
        parse_with_warnings(&file, "f").unwrap().warnings
    }

    #[test]
    fn a_base_url_that_doubles_the_version_is_told_with_its_place() {
        let told = warnings("https://a.example/openai/v1/", "/v1/chat/completions", "");
        assert_eq!(told.len(), 1);
        let begins = "f:2:1: providers.a.base_url: ends in /v1";
        assert!(told[0].starts_with(begins), "{told:?}");
        assert!(
            told[0].contains("/openai/v1/v1/…; leave /v1 away"),
            "{told:?}"
        );
        let base = "https://a.example/v1";
        assert_eq!(warnings(base, "/*", "").len(), 1);
        assert_eq!(
            warnings(base, "/chat/completions", ""),
            Vec::<String>::new()
        );
        for fine in [
            "https://a.example",
            "https://a.example/api/xv1",
            "https://v1",
        ] {
            assert_eq!(warnings(fine, "/v1/*", ""), Vec::<String>::new(), "{fine}");
        }
        let alone = "[providers.a]\nbase_url = \"https://a.example/v1\"\n";
        assert_eq!(parse_with_warnings(alone, "f").unwrap().warnings.len(), 1);
    }

    #[test]
    fn what_contradicts_itself_is_told_and_a_default_does_not() {
        let told = |rest: &str| warnings("https://a.example", "/v1/*", rest);
        let none = Vec::<String>::new();
        assert_eq!(told("budget = { total = \"5s\" }"), none);
        assert_eq!(
            told("budget = { total = \"5s\", first_token = \"5s\" }"),
            none
        );
        let first = told("budget = { total = \"5s\", first_token = \"7s\" }");
        assert!(
            first[0].starts_with("f:7:26: routes[0].budget.first_token: 7s is above"),
            "{first:?}"
        );
        let hedge = |more: &str| {
            told(&format!(
                "hedge = {{ after = \"5s\" }}\nbudget = {{ total = \"5s\" }}\n{more}"
            ))
        };
        let late = hedge("");
        assert!(
            late[0].starts_with("f:7:11: routes[0].hedge.after: 5s is not before"),
            "{late:?}"
        );
        // They are hedged past the budget, since nothing ends there.
        assert_eq!(hedge("over_budget = { action = \"observe\" }"), none);
        assert_eq!(hedge("over_budget = { unasked = \"wait\" }"), none);
        assert_eq!(
            told("hedge = { after = \"4s\" }\nbudget = { total = \"5s\" }"),
            none
        );
    }

    #[test]
    fn a_route_that_no_call_reaches_is_told() {
        let two = |first: &str, second: &str| {
            let route = |name: &str, matches: &str| {
                format!(
                    "[[routes]]\nname = \"{name}\"\nmatch = {{ {matches} }}\ntargets = [\"a\"]\n"
                )
            };
            let provider = "[providers.a]\nbase_url = \"https://a.example\"\n";
            let file = format!("{provider}{}{}", route("one", first), route("two", second));
            parse_with_warnings(&file, "f").unwrap().warnings
        };
        for (first, second) in [
            (r#"path = "/v1/chat""#, r#"path = "/v1/chat""#),
            (
                r#"path = "/v1/*""#,
                r#"path = "/v1/embeddings", model = "m""#,
            ),
            (
                r#"path = "/v1/*", model = "gpt-*""#,
                r#"path = "/v1/*", model = "gpt-4o""#,
            ),
            (
                r#"path = "/*", header = { x = "*" }"#,
                r#"path = "/v1/*", header = { X = "y*" }"#,
            ),
        ] {
            let told = two(first, second);
            assert_eq!(told.len(), 1, "{first} {second} {told:?}");
            assert!(
                told[0].contains("routes[1].match: no call comes here: route `one`"),
                "{told:?}"
            );
        }
        for (first, second) in [
            (r#"path = "/v1/chat""#, r#"path = "/v1/*""#),
            (r#"path = "/v1/*", model = "gpt-*""#, r#"path = "/v1/*""#),
            (
                r#"path = "/v1/*", model = "gpt-*""#,
                r#"path = "/v1/*", model = "*-4o""#,
            ),
            (r#"path = "/*", header = { x = "y" }"#, r#"path = "/v1/*""#),
        ] {
            assert_eq!(two(first, second), Vec::<String>::new(), "{first} {second}");
        }
    }

    #[test]
    fn a_gateway_that_spends_a_key_for_strangers_is_told() {
        let told = |listen: &str, more: &str, key: &str| {
            let file = format!(
                "[listen]\npublic = \"{listen}:8080\"\n{more}\n[providers.a]\n\
                 base_url = \"https://a.example\"\n{key}\n"
            );
            parse_with_warnings(&file, "f").unwrap().warnings
        };
        let key = "api_key = { env = \"KEY\" }";
        let open = told("0.0.0.0", "", key);
        assert_eq!(open.len(), 1);
        let begins = "f:2:1: listen.public: is not on loopback";
        assert!(open[0].starts_with(begins), "{open:?}");
        assert!(open[0].contains("providers.a.api_key"), "{open:?}");
        let mutual = "tls = { cert = \"c\", key = \"k\", client_ca = \"r\" }";
        for (listen, more, key) in [
            ("127.0.0.1", "", key),
            ("0.0.0.0", "", ""),
            ("0.0.0.0", mutual, key),
            ("0.0.0.0", "[auth]\nkeys = \"k\"", key),
        ] {
            assert_eq!(told(listen, more, key), Vec::<String>::new(), "{more}");
        }
    }

    #[test]
    fn a_route_on_the_gateway_s_own_pages_is_told() {
        for path in ["/jobs", "/jobs/*", "/scopes/x"] {
            let told = warnings("https://a.example", path, "");
            assert_eq!(told.len(), 1, "{path}");
            assert!(
                told[0].contains("match.path: no call comes here"),
                "{told:?}"
            );
        }
        for path in ["/jobs*", "/v1/jobs", "/*"] {
            let told = warnings("https://a.example", path, "");
            assert_eq!(told, Vec::<String>::new(), "{path}");
        }
    }
}
