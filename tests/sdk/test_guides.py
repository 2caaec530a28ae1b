"""Every guide in docs/ does what it says: its code is run against real gateways, top to bottom."""

import re
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT
from guide import Guide
from postgres import Cluster

DOCS = ROOT / "docs"
GUIDES = ["many-gateways", "hedging", "budget", "start", "sdks", "clients", "cold", "callbacks"]
DATABASE = "postgres://shunt@127.0.0.1:5432/shunt"
DURATION = re.compile(r"\d+(ms|s|m|h)")


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The guides that are asked for, three at a time: they wait most of their time."""
    asked = {item.callspec.params["name"] for item in request.session.items if item.fspath == request.fspath and hasattr(item, "callspec")}
    cluster = Cluster() if "many-gateways" in asked else None
    with ThreadPoolExecutor(3) as pool:
        runs = {}
        for name in sorted(asked, key=GUIDES.index):
            database = [(DATABASE, cluster.database()[1])] if name == "many-gateways" else []
            guide = Guide(f"{name}.md", tmp_path_factory.mktemp(name), database)
            runs[name] = guide, pool.submit(guide.run)
        yield runs
    if cluster:
        cluster.close()


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_does_what_it_says_and_is_short(name, runs):
    guide, run = runs[name]
    run.result()
    assert guide.lines <= 160


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_says_first_which_ports_it_uses(name, tmp_path):
    guide = Guide(f"{name}.md", tmp_path)
    used = set(re.findall(r"\b(80[08][0-9]|90[0-9][0-9])\b", guide.code))
    if name == "many-gateways":
        used = used - {"8080", "8081"} | {"8100", "8109", "8200", "8209"}
    assert used == set(re.findall(r"\b[89]\d{3}\b", guide.opening))


def test_the_rust_receiver_is_the_one_that_is_built():
    built = (ROOT / "examples/receive.rs").read_text().split("\n", 2)[2]
    assert f"```rust receive.rs\n{built}```" in (DOCS / "callbacks.md").read_text()


def test_a_guide_whose_output_is_another_fails(tmp_path):
    text = "```sh\necho one\n```\n```text\n{}\n```\n"
    guide = Guide("start.md", tmp_path)
    for wanted, right in [("one", True), ("o…", True), ("two", False), ("on", False)]:
        guide.blocks = [("sh", "", "echo one\n"), ("text", "", wanted + "\n")]
        if right:
            guide.run()
        else:
            with pytest.raises(AssertionError, match="--- wanted"):
                guide.run()
    guide.blocks = [("sh", "", "false\n"), ("text", "", "…\n")]
    with pytest.raises(AssertionError, match="failed"):
        guide.run()
    guide.blocks = [("sh", "", "true\n")]
    with pytest.raises(AssertionError, match="nothing is looked at"):
        guide.run()


def test_a_guide_that_leaves_something_running_or_installs_what_no_test_has_fails(tmp_path):
    guide = Guide("start.md", tmp_path)
    guide.patience = 0.5
    guide.blocks = [("sh", "", "sleep 30 >/dev/null &\necho one\n"), ("text", "", "one\n")]
    with pytest.raises(AssertionError, match="leaves these running.*sleep 30"):
        guide.run()
    for install, right in [("pip install openai anthropic", True), ("pip install openai nothing", False),
                           ("npm i @ai-sdk/openai ai", True), ("npm i nothing", False)]:
        guide.blocks = [("sh", "", f"{install}\necho one\n"), ("text", "", "one\n")]
        if right:
            guide.run()
        else:
            with pytest.raises(AssertionError, match="failed"):
                guide.run()


def durations(table, path=""):
    """Every key of a configuration whose value is a time, or may be one."""
    for key, value in table.items():
        name = path + key
        if isinstance(value, dict):
            yield from durations(value, path + ("*." if path == "providers." else key + "."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from durations(one, name + ".")
        elif DURATION.fullmatch(str(value)) or (isinstance(value, list) and DURATION.fullmatch(str((value or [""])[0]))):
            yield name, value


def test_the_timeline_has_every_time_of_the_configuration_and_no_other():
    reference = tomllib.loads((ROOT / "config/reference.toml").read_text())
    times = dict(durations(reference))
    # These may be times, and are off by default.
    times |= {"routes.hedge.after": "off", "routes.budget.keepalive": "off"}
    text = (DOCS / "timeline.md").read_text()
    shown = dict(re.findall(r"`?((?:[a-z_]+|\*)(?:\.(?:[a-z_]+|\*))+)`? \[([^\]]+)\]", text))
    shown.pop("config/reference.toml", None)
    assert sorted(shown) == sorted(times)
    for key, value in times.items():
        if isinstance(value, list):
            value = f"{value[0]}, {value[1]}, ... {value[-1]}"
        assert shown[key] == value, key


def test_every_page_is_in_the_index_and_every_link_leads_somewhere():
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in link or (DOCS / link).exists(), f"{page.name}: {link}"
