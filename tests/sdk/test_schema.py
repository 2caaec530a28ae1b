"""What an editor makes of a configuration: the schema beside the examples, read by taplo (the engine of Even Better
TOML) and by a validator of JSON Schema's own."""

import json
import pathlib
import subprocess
import sys
import tomllib

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ["reference.toml", "shunt.toml"]
SCHEMA = json.loads((ROOT / "config/schema.json").read_text())
TAPLO = pathlib.Path(sys.executable).with_name("taplo")


def mistakes(text):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


@pytest.fixture
def edit(tmp_path):
    """What an editor says of a file that lies beside the schema."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))

    def edit(text):
        (tmp_path / "shunt.toml").write_text(text)
        return subprocess.run(
            [TAPLO, "check", "shunt.toml"], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )

    return edit


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_editor_has_nothing_against_an_example(name, edit):
    text = (ROOT / "config" / name).read_text()
    told = edit(text)
    assert told.returncode == 0, told.stderr
    assert mistakes(text) == []


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ('first_token = "10s"', 'frist_token = "10s"', "frist_token"),
        ('first_token = "10s"', 'first_token = "10 seconds"', "10 seconds"),
        ('first_token = "10s"', "first_token = 10", "10"),
        ('after     = "p95"', 'after     = "slow"', "slow"),
        ('action  = "demote"', 'action  = "demot"', "demot"),
        ('name    = "chat"\n', "", "name"),
    ],
)
def test_an_editor_marks_a_mistake(right, wrong, says, edit):
    text = (ROOT / "config/shunt.toml").read_text()
    assert right in text
    text = text.replace(right, wrong, 1)
    told = edit(text)
    assert told.returncode != 0 and says in told.stderr, told.stderr
    assert any(says in mistake for mistake in mistakes(text))


def test_every_configuration_that_is_shipped_names_the_schema_and_keeps_to_it():
    files = sorted((ROOT / "config").rglob("*.toml"))
    assert len(files) == 5
    for file in files:
        first = file.read_text().splitlines()[0]
        assert (file.parent / first.removeprefix("#:schema ")).resolve() == ROOT / "config/schema.json", file
    command = [TAPLO, "check", *(str(file.relative_to(ROOT)) for file in files)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
