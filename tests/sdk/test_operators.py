"""What operators see, checked with Prometheus's own tool."""

import json
import subprocess

import openai
import pytest
from conftest import SHUNT


def ask_once(gateway):
    """One call answered whole and one as a stream."""
    client = openai.OpenAI(base_url=gateway.public + "/v1", api_key="k")
    for stream in (False, True):
        answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=stream)
        if stream:
            list(answer)


def test_promtool_finds_nothing_wrong_with_the_metrics(gateway):
    ask_once(gateway)
    status, headers, text = gateway.fetch(gateway.admin + "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "shunt_requests_total", "shunt_request_duration_seconds_bucket",
        "shunt_first_token_seconds_bucket", "shunt_overhead_seconds_bucket",
        "shunt_hedges_total", "shunt_budget_seconds", "shunt_build_info", "shunt_jobs",
    ):
        assert name.encode() in text, name
    assert b"test-key" not in text


def test_the_gateway_is_ready_and_never_serves_operators_pages_to_callers(gateway):
    assert gateway.fetch(gateway.admin + "/healthz")[0] == 200
    assert gateway.fetch(gateway.admin + "/readyz")[0] == 200
    assert gateway.fetch(gateway.public + "/metrics")[0] == 404


def test_an_app_that_calls_the_admin_listener_is_told_where_it_is(gateway):
    for path in ["/v1/chat/completions", "/none"]:
        status, _, told = gateway.fetch(gateway.admin + path)
        assert status == 404
        assert b"this is the admin listener; apps use the public one (listen.public)" in told


def test_the_api_tells_percentiles_and_what_a_budget_would_have_done(gateway):
    def routes():
        _, _, text = gateway.fetch(gateway.admin + "/api/routes")
        return {one["name"]: one for one in json.loads(text)["routes"]}

    client = openai.OpenAI(base_url=gateway.public + "/v1", api_key="k")
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    gateway.until(lambda: routes()["chat"]["phases"]["total"]["1m"]["count"] > 0)

    def over(total):
        _, _, text = gateway.fetch(f"{gateway.admin}/api/routes/chat/what-if?total={total}")
        return json.loads(text)["total"]["over"]

    # Other tests call the same gateway, and some of their calls are refused at once.
    assert over("1ms") > 0 and over("10m") == 0
    _, _, text = gateway.fetch(gateway.admin + "/api/routes/chat/histogram.hgrm")
    assert b"#[Mean" in text


def test_what_if_guesses_nothing_about_calls_that_were_let_go(gateway):
    late = {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": "700"}}
    assert gateway.call("/v1/chat/completions", late, **{"x-shunt-budget": "50ms"})[0] == 504

    def what_if(total):
        _, _, text = gateway.fetch(f"{gateway.admin}/api/routes/chat/what-if?total={total}")
        return json.loads(text)["total"]

    # Calls of other tests had budgets of their own, some shorter: those stand there before this one does.
    gateway.until(lambda: what_if("50ms")["unknown"] < what_if("10m")["unknown"])
    assert what_if("10m")["over"] == 0 and what_if("50ms")["over"] > 0


@pytest.mark.parametrize("taken", ["public", "admin"])
def test_a_second_gateway_on_the_same_address_is_refused_and_takes_no_calls(gateway, tmp_path, taken):
    listen = {"public": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    listen[taken] = getattr(gateway, taken).removeprefix("http://")
    (tmp_path / "shunt.toml").write_text(f"""
[listen]
public = "{listen['public']}"
admin  = "{listen['admin']}"
[providers.one]
base_url = "http://127.0.0.1:9"
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    serve = [SHUNT, "serve", "--config", str(tmp_path / "shunt.toml")]
    told = subprocess.run(serve, capture_output=True, text=True, timeout=30)
    assert told.returncode == 1 and f"the {taken} address {listen[taken]} cannot be used" in told.stderr
