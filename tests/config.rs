//! The configuration files of the repository, held to the schema.

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
