"""docs/errors.md tells of every code that the gateway gives out, and of no other."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text()


def told(section):
    part = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {(code, int(status)) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", part, re.M)}


def sources():
    for file in sorted((ROOT / "src").rglob("*.rs")):
        if "tests" not in file.name and "virtual_time" not in file.parts:
            yield file.read_text().split("#[cfg(test)]\nmod tests")[0]


def test_codes_of_calls_and_their_statuses_are_those_of_the_source():
    text = (ROOT / "src/hot/error.rs").read_text()
    names = {"GATEWAY_TIMEOUT": 504, "NOT_FOUND": 404, "BAD_REQUEST": 400, "PAYLOAD_TOO_LARGE": 413, "REQUEST_TIMEOUT": 408,
             "UNSUPPORTED_MEDIA_TYPE": 415, "REQUEST_HEADER_FIELDS_TOO_LARGE": 431, "SERVICE_UNAVAILABLE": 503, "BAD_GATEWAY": 502,
             "UNPROCESSABLE_ENTITY": 422, "CONFLICT": 409, "UNAUTHORIZED": 401, "FORBIDDEN": 403, "TOO_MANY_REQUESTS": 429}
    arms = re.findall(r"^ +((?:Self::\w+(?:\(_\))?(?: \| )?)+) => (?:StatusCode::(\w+)|\"(\w+)\"),", text, re.M)
    words = {one: word for arm, _, word in arms if word for one in arm.split(" | ")}
    statuses = {one: names[status] for arm, status, _ in arms if status for one in arm.split(" | ")}
    assert len(words) > 10 and words.keys() == statuses.keys()
    assert told("Of calls") == {(words[arm], statuses[arm]) for arm in words}


def test_codes_of_pages_are_those_of_the_source():
    found = set()
    for text in sources():
        found |= set(re.findall(r"\b(?:problem|refused)\(\s*StatusCode::\w+,\s*\"(\w+)\"", text))
    assert len(found) > 4
    assert {code for code, _ in told("Of pages")} == found


def test_codes_of_jobs_are_those_of_the_source():
    found = set()
    for text in sources():
        found |= set(re.findall(r"JobError::new\(\s*\"(\w+)\"", text))
    assert len(found) > 6
    assert {code for code, _ in told("Of jobs")} == found
