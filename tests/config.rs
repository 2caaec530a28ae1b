//! The configuration files of the repository, held to the schema.

use serde_json::Value;
use shunt::config::{Config, Problems, load, parse};

const REFERENCE: &str = include_str!("../config/reference.toml");

#[test]
fn the_reference_shows_every_default() -> Result<(), Problems> {
    let mut shown = parse(REFERENCE, "reference.toml")?;
    let provider = shown
        .providers
        .remove("example")
        .expect("the example provider");
    let route = shown.routes.remove(0);
    assert_eq!(shown, Config::default());
    let bare = parse(
        "[providers.example]\nbase_url = \"https://api.example.com\"\n\
         [[routes]]\nname = \"example-route\"\nmatch = { path = \"/v1/*\" }\n\
         targets = [\"example\"]\n",
        "bare.toml",
    )?;
    assert_eq!(bare.providers["example"], provider);
    assert_eq!(bare.routes[0], route);
    Ok(())
}

#[test]
fn the_reference_names_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).expect("a schema is JSON");
    let mut missing = Vec::new();
    let mut look = |value: &serde_json::Value| {
        for key in value["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            if !REFERENCE.contains(key.as_str()) {
                missing.push(key.clone());
            }
        }
    };
    look(&schema);
    for definition in schema["$defs"].as_object().expect("definitions").values() {
        look(definition);
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// Editors read it: both example files name it in their first line.
#[test]
fn the_schema_beside_the_examples_is_the_one_that_the_program_prints() {
    let schema = schemars::schema_for!(Config);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    let file = std::fs::read_to_string("config/schema.json").expect("it is there");
    assert_eq!(
        file, text,
        "write it again: cargo run -- schema > config/schema.json"
    );
}

#[test]
fn the_newcomers_file_is_valid() -> Result<(), Problems> {
    let config = load(std::path::Path::new("config/shunt.toml"))?;
    assert!(config.providers.contains_key("openai"));
    Ok(())
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place_and_its_sentence() {
    insta::glob!("mistakes/*.toml", |path| {
        let text = std::fs::read_to_string(path).expect("the file is there");
        let problems = parse(&text, "shunt.toml").expect_err("it has mistakes");
        assert!(!problems.to_string().contains("very-secret"));
        insta::assert_snapshot!(problems.to_string());
    });
}

/// Every key that a schema has, as a file would nest a value there: `a = { b = [VALUE] }`.
fn nestings(
    schema: &Value,
    whole: &Value,
    before: &str,
    after: &str,
    found: &mut Vec<(String, String)>,
) {
    found.push((before.to_owned(), after.to_owned()));
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        return nestings(&whole["$defs"][name], whole, before, after, found);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        nestings(one, whole, before, after, found);
    }
    for (key, one) in schema["properties"].as_object().into_iter().flatten() {
        nestings(
            one,
            whole,
            &format!("{before}{{ {key} = "),
            &format!(" }}{after}"),
            found,
        );
    }
    if schema["additionalProperties"].is_object() {
        let one = &schema["additionalProperties"];
        nestings(
            one,
            whole,
            &format!("{before}{{ any = "),
            &format!(" }}{after}"),
            found,
        );
    }
    if schema["items"].is_object() {
        nestings(
            &schema["items"],
            whole,
            &format!("{before}["),
            &format!("]{after}"),
            found,
        );
    }
}

/// Found by one who wrote `budget = "5"` and was told of a `struct Budget`.
#[test]
fn what_is_told_of_a_value_names_no_type_of_the_programs() {
    let whole = serde_json::to_value(schemars::schema_for!(Config)).expect("a schema is JSON");
    let types = whole["$defs"].as_object().expect("definitions");
    let mut found = Vec::new();
    for (key, one) in whole["properties"].as_object().expect("keys") {
        nestings(one, &whole, &format!("{key} = "), "", &mut found);
    }
    assert!(found.len() > 150, "{}", found.len());
    let words = [
        "struct", "enum", "variant", "untagged", "tuple", "map", "sequence", "string", "usize",
        "u16", "u32", "u64", "i64", "f64", "option", "invalid", "expected", "integer",
    ];
    for (before, after) in &found {
        for value in [
            "5",
            "-5",
            "1.5",
            "true",
            "\"?\"",
            "1979-05-27",
            "[]",
            "[5]",
            "{}",
            "{ zzz = 1 }",
        ] {
            let text = format!("{before}{value}{after}\n");
            let Err(problems) = parse(&text, "f") else {
                continue;
            };
            let told = problems.to_string();
            for word in told.split(|one: char| !one.is_alphanumeric() && one != '_') {
                let is_type = types.contains_key(word) || words.contains(&word);
                assert!(!is_type, "{word}: {text}{told}");
            }
        }
    }
}

#[test]
fn a_contradiction_is_no_mistake_and_is_told_with_its_place() -> Result<(), Problems> {
    let text = "[providers.a]\nbase_url = \"https://a.example/v1\"\n[[routes]]\nname = \"r\"\n\
                match = { path = \"/v1/*\" }\ntargets = [\"a\"]\nhedge = { after = \"6s\" }\n\
                budget = { total = \"5s\", first_token = \"7s\" }\n";
    let warnings = shunt::config::parse_with_warnings(text, "shunt.toml")?.warnings;
    insta::assert_snapshot!(warnings.join("\n"));
    for file in ["config/shunt.toml", "config/reference.toml"] {
        let loaded = shunt::config::load_with_warnings(std::path::Path::new(file))?;
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{file}");
    }
    Ok(())
}
