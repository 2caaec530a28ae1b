"""Who may call: the gateway's own keys with real SDKs, and the admin listener's token."""

import contextlib
import hashlib
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import anthropic
import openai
import pytest

from conftest import SECRET, SHUNT, Gateway, House

TOKEN = "admin-token-0123456789abcdef0123456789"
ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
LATER = {"prefer": "respond-async, wait=0"}


class Provider(http.server.ThreadingHTTPServer):
    """Keeps the headers that it is sent; answers as OpenAI does."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Echo)
        self.seen, self.held = [], threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        if "x-holds" in self.headers:
            self.server.held.wait(30)
        body = b'{"id":"x","object":"chat.completion","choices":[]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Guarded:
    """A gateway with a key file and an admin token, whose log is kept."""

    def __init__(self, folder):
        self.folder, self.keys = folder, folder / "keys.toml"
        self.provider = Provider()
        self.house = House(folder, self.change)
        self.made = {
            name: self.create("--name", name, *more)
            for name, more in {
                "all": [],
                "other": [],
                "messages": ["--route", "messages"],
                "slow": ["--rate", "0.2", "--burst", "2"],
                "single": ["--concurrency", "1"],
                "large": ["--share", "3"],
            }.items()
        }
        self.log = open(folder / "log", "wb")
        environment = dict(
            os.environ, SHUNT_CALLBACK_SECRET=SECRET, SHUNT_LOG="trace", ADMIN_TOKEN=TOKEN,
            PROVIDER_KEY="provider-key",
        )
        self.process = subprocess.Popen(
            [SHUNT, "serve", "--config", str(self.house.config)], text=True, env=environment,
            stdout=subprocess.PIPE, stderr=self.log,
        )
        public, admin = (self.process.stdout.readline().split()[-1] for _ in range(2))
        self.gateway = Gateway(public, admin, self.house.simulate, self.house.receiver)

    def change(self, text):
        echo = f"""[auth]
keys = "{self.keys}"
admin_token = {{ env = "ADMIN_TOKEN" }}
[providers.open]
base_url = "{self.provider.url()}"
dialect = "openai"
[providers.narrow]
base_url = "{self.provider.url()}"
dialect = "openai"
[providers.narrow.concurrency]
mode = "fixed"
limit = 1
queue = 40
[providers.keyed]
base_url = "{self.provider.url()}"
dialect = "openai"
api_key = {{ env = "PROVIDER_KEY" }}
"""
        return text.replace("[providers.sim]", echo + "[providers.sim]", 1)

    def shunt(self, *arguments, **environment):
        return subprocess.run(
            [SHUNT, *arguments], capture_output=True, text=True, timeout=60,
            env=dict(os.environ, **environment),
        )

    def create(self, *arguments):
        made = self.shunt("keys", "create", "--file", str(self.keys), *arguments)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def bearer(self, name):
        return {"authorization": f"Bearer {self.made[name]}"}

    def openai(self, key, **more):
        return openai.OpenAI(api_key=key, base_url=self.gateway.public + "/v1", **more)

    def metrics(self):
        headers = {"authorization": f"Bearer {TOKEN}"}
        return self.gateway.fetch(self.gateway.admin + "/metrics", headers=headers)

    def close(self):
        self.process.terminate()
        assert self.process.wait(timeout=40) == 0
        self.log.close()
        self.house.close()
        self.provider.shutdown()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    made = Guarded(tmp_path_factory.mktemp("auth"))
    with contextlib.closing(made):
        yield made


def test_the_right_key_works_with_both_sdks(guarded):
    answer = guarded.openai(guarded.made["all"]).chat.completions.create(**ASK)
    assert answer.choices[0].message.content
    for given in [{"api_key": guarded.made["all"]}, {"auth_token": guarded.made["all"]}]:
        client = anthropic.Anthropic(base_url=guarded.gateway.public, **given)
        said = client.messages.create(model="claude-x", max_tokens=9, messages=ASK["messages"])
        assert said.content


def test_a_wrong_or_missing_key_is_an_authentication_error(guarded):
    key = guarded.made["all"]
    for wrong in ["sk-not-ours", key[:-1], key[:-1] + ("0" if key[-1] != "0" else "1")]:
        with pytest.raises(openai.AuthenticationError) as told:
            guarded.openai(wrong).chat.completions.create(**ASK)
        assert told.value.code == "unauthorized"
        assert told.value.response.headers["www-authenticate"] == "Bearer"
        assert wrong not in told.value.response.text
        with pytest.raises(anthropic.AuthenticationError):
            client = anthropic.Anthropic(base_url=guarded.gateway.public, api_key=wrong)
            client.messages.create(model="claude-x", max_tokens=9, messages=ASK["messages"])
    gateway = guarded.gateway
    for path in ["/jobs", "/jobs/job_0", "/scopes/a", "/v1/responses/resp_0", "/raw/x"]:
        status, _, body = gateway.fetch(gateway.public + path)
        assert status == 401, path
        assert b"unauthorized" in body and b"carries no key" in body
    made = guarded.create("--name", "unloaded")
    # An id that is known with another's secret tells no more than one that is not.
    forged = key[:19] + made[19:59]
    forged += hashlib.sha256(forged.encode()).hexdigest()[:6]
    for wrong, says in [("sk-not-ours", "is not known here"), (made[:-1], "was cut or mistyped"),
                        (made, "is not known here, or it was revoked"), (forged, "is not known here, or it was revoked")]:
        told = gateway.fetch(gateway.public + "/jobs", headers={"authorization": f"Bearer {wrong}"})
        assert told[0] == 401 and says in json.loads(told[2])["detail"], told
    assert 'shunt_auth_refusals_total{reason="missing"}' in guarded.metrics()[2].decode()


def test_a_route_that_is_not_allowed_is_a_permission_denied_error(guarded):
    key = guarded.made["messages"]
    with pytest.raises(openai.PermissionDeniedError) as told:
        guarded.openai(key).chat.completions.create(**ASK)
    assert told.value.code == "forbidden"
    client = anthropic.Anthropic(base_url=guarded.gateway.public, api_key=key)
    assert client.messages.create(model="claude-x", max_tokens=9, messages=ASK["messages"])


def test_a_refusal_says_whether_its_connection_closes(guarded):
    where = urllib.parse.urlsplit(guarded.gateway.public)
    body = json.dumps(ASK).encode()

    def call(key):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body)

    def answer(connection):
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers["connection"], response.read()

    # Nothing of its body was read, so that its next call would meet the end of the connection.
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(call("sk-not-ours"))
        assert answer(connection)[:2] == (401, "close")
        assert connection.recv(1) == b""
    # All of it was: the connection is kept, also where the call goes no further than its key.
    for key, status in [(guarded.made["messages"], 403), ("sk-not-ours", 401)]:
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            for _ in range(3):
                connection.sendall(call(key))
                time.sleep(0.05)
                connection.sendall(body)
                assert answer(connection)[:2] == (status, None)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        told = []
        for _ in range(8):
            connection.sendall(call(guarded.made["slow"]) + body)
            told.append(answer(connection)[:2])
        assert told.count((429, None)) >= 5, told


def test_over_its_rate_a_key_gets_a_rate_limit_error_and_is_told_when_to_come_again(guarded):
    client = guarded.openai(guarded.made["slow"], max_retries=0)
    with pytest.raises(openai.RateLimitError) as told:
        for _ in range(3):
            client.chat.completions.create(**ASK)
    assert told.value.code == "rate_limited"
    assert 1 <= int(told.value.response.headers["retry-after"]) <= 5


def test_over_its_concurrency_too_until_its_call_ends(guarded):
    gateway, mine = guarded.gateway, guarded.bearer("single")
    long = ASK | {"model": "other", "stream": True,
                  "metadata": {"sim_tokens": "20", "sim_gap_ms": "50"}}
    tagged = mine | {"x_request_tag": "the-only-one"}
    first = threading.Thread(target=gateway.call, args=("/v1/chat/completions", long), kwargs=tagged)
    first.start()
    status = lambda: gateway.call("/v1/chat/completions", ASK, **mine)[0]
    # Before that a call of ours might take the place.
    gateway.until(lambda: gateway.stats("the-only-one").get("running") == 1)
    assert status() == 429
    # Another key is not held up by it.
    assert gateway.call("/v1/chat/completions", ASK, **guarded.bearer("all"))[0] == 200
    first.join()
    gateway.until(lambda: status() == 200)


def test_at_a_full_target_a_key_gets_places_by_its_share(guarded):
    gateway, path, seen = guarded.gateway, "/narrow/v1/chat/completions", guarded.provider.seen
    waiting = "shunt_queue_length"

    def waits():
        lines = guarded.metrics()[2].decode().splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith(waiting) and "narrow" in line)

    def call(key, **more):
        call = lambda: gateway.call(path, ASK, **guarded.bearer(key), x_who=key, **more)
        threads.append(threading.Thread(target=call))
        threads[-1].start()

    threads, before = [], len(seen)
    call("other", x_holds="yes")
    gateway.until(lambda: len(seen) > before)
    for _ in range(40):
        call("all")
    gateway.until(lambda: waits() == 40)
    # The queue is full, and not for who has less than its share of it.
    for _ in range(24):
        call("large")
    gateway.until(lambda: waits() == 64)
    guarded.provider.held.set()
    for thread in threads:
        thread.join()
    order = [headers["x-who"] for headers in seen[before + 1:]]
    assert len(order) == 64
    assert order[:32].count("large") in range(23, 26)


def test_two_keys_see_nothing_of_each_other(guarded):
    gateway = guarded.gateway
    mine, theirs = guarded.bearer("all"), guarded.bearer("other")
    named = {"idempotency_key": "same", "x_shunt_scope": "run:1"}
    _, _, body = gateway.call("/v1/chat/completions", ASK, **mine, **LATER, **named)
    job = json.loads(body)["id"]
    _, _, body = gateway.call("/v1/chat/completions", ASK, **theirs, **LATER, **named)
    other = json.loads(body)["id"]
    assert other != job
    # The same key as another SDK sends it is the same caller.
    _, _, body = gateway.call(
        "/v1/chat/completions", ASK, x_api_key=guarded.made["all"], **LATER, **named
    )
    assert json.loads(body)["id"] == job
    for path in [f"/jobs/{job}", f"/jobs/{job}/result", f"/jobs/{job}/events"]:
        assert gateway.fetch(gateway.public + path, headers=theirs)[0] == 404
        assert gateway.fetch(gateway.public + path, headers=mine)[0] != 404
    listed = lambda who: gateway.fetch(gateway.public + "/jobs", headers=who)[2].decode()
    assert job in listed(mine) and job not in listed(theirs)
    told = lambda: gateway.fetch(gateway.public + f"/jobs/{other}", headers=theirs)[2]
    gateway.until(lambda: json.loads(told()).get("finished_at"), seconds=30)
    # A scope tells its unfinished jobs.
    slow = ASK | {"model": "other", "metadata": {"sim_latency_ms": "20000"}}
    _, _, body = gateway.call(
        "/v1/chat/completions", slow, **mine, **LATER, x_shunt_scope="run:1"
    )
    waits = json.loads(body)["id"]
    at = lambda method, who: gateway.fetch(gateway.public + "/scopes/run:1", method, who)[2].decode()
    assert waits in at("GET", mine) and waits not in at("GET", theirs)
    assert json.loads(at("DELETE", theirs))["cancelled"]["jobs"] == 0
    assert json.loads(at("DELETE", mine))["cancelled"]["jobs"] == 1
    # What stands for a key inside the gateway is no key.
    text = guarded.keys.read_text()
    ident, digest = (text.split(f'{name} = "')[1].split('"')[0] for name in ["id", "sha256"])
    forged = {"authorization": f"shunt-key {ident} {digest}"}
    assert gateway.fetch(f"{gateway.public}/jobs/{job}", headers=forged)[0] == 401

    client, other = guarded.openai(guarded.made["all"]), guarded.openai(guarded.made["other"])
    response = client.responses.create(
        model="gpt-4o", input="Hi", extra_headers={"Prefer": "respond-async, wait=0"}
    )
    assert client.responses.retrieve(response.id).id == response.id
    with pytest.raises(openai.NotFoundError):
        other.responses.retrieve(response.id)


def test_no_provider_sees_a_key_of_the_gateway_s(guarded):
    gateway, seen, key = guarded.gateway, guarded.provider.seen, guarded.made["all"]
    own = {"authorization": "Bearer sk-mine"}
    cases = [
        ("open", {"authorization": f"Bearer {key}"}, None),
        ("open", {"x_shunt_key": key, **own}, "Bearer sk-mine"),
        ("open", {"x_api_key": key, **own}, "Bearer sk-mine"),
        ("open", {"api_key": key, "x_goog_api_key": key}, None),
        ("keyed", {"authorization": f"Bearer {key}"}, "Bearer provider-key"),
        ("keyed", {"x_shunt_key": key, **own}, "Bearer provider-key"),
    ]
    for provider, headers, wanted in cases:
        for later in [{}, LATER]:
            before = len(seen)
            status, _, _ = gateway.call(
                f"/{provider}/v1/chat/completions", ASK, **headers, **later
            )
            assert status == (202 if later else 200)
            gateway.until(lambda: len(seen) > before)
            assert seen[-1].get("authorization") == wanted, (provider, headers)
            assert not [line for line in seen[-1].items() if "shunt" in "".join(line)]


def test_operators_need_the_token(guarded):
    gateway = guarded.gateway
    at = lambda path, **headers: gateway.fetch(gateway.admin + path, headers=headers)[0]
    assert at("/healthz") == at("/readyz") == 200
    for path in ["/metrics", "/api/routes", "/api/jobs", "/", "/none"]:
        assert at(path) == 401
        assert at(path, authorization=f"Bearer {TOKEN}x") == 401
        assert at(path, authorization=f"Bearer {guarded.made['all']}") == 401
    assert guarded.metrics()[0] == 200
    ask = ["jobs", "list", "--admin", gateway.admin]
    told = guarded.shunt(*ask)
    assert told.returncode == 1 and "--admin-token-env" in told.stderr
    assert guarded.shunt(*ask, "--admin-token-env", "T", T=TOKEN).returncode == 0


def test_a_key_is_listed_without_itself_and_gone_after_a_reload(guarded):
    gateway, key = guarded.gateway, guarded.create("--name", "brief", "--expires-in", "24h")
    call = lambda: gateway.call("/v1/chat/completions", ASK, authorization=f"Bearer {key}")[0]
    assert call() == 401
    guarded.process.send_signal(signal.SIGHUP)
    gateway.until(lambda: call() == 200)
    listed = guarded.shunt("keys", "list", "--file", str(guarded.keys)).stdout
    assert "brief" in listed and key.split("_")[1] in listed and key.split("_")[2] not in listed
    file = ["--file", str(guarded.keys)]
    assert guarded.shunt("keys", "revoke", "brief", *file).returncode == 0
    assert guarded.shunt("keys", "revoke", "brief", *file).returncode == 1
    guarded.process.send_signal(signal.SIGHUP)
    gateway.until(lambda: call() == 401)
    # A broken file changes nothing.
    good = guarded.keys.read_text()
    guarded.keys.write_text("[[keys]]\nid = 7")
    guarded.process.send_signal(signal.SIGHUP)
    gateway.until(lambda: 'result="failed"' in guarded.metrics()[2].decode())
    guarded.keys.write_text(good)
    assert gateway.call("/v1/chat/completions", ASK, **guarded.bearer("all"))[0] == 200


def test_no_key_stands_in_a_log_a_metric_or_a_file(guarded):
    metrics = guarded.metrics()[2]
    # What is queued to be written.
    time.sleep(0.5)
    files = {path.name: path.read_bytes() for path in guarded.folder.rglob("*") if path.is_file()}
    assert {"log", "keys.toml", "jobs.db"} <= files.keys()
    assert b"each call needs a key" in files["log"]
    assert b"\x1b" not in files["log"], "colours are for a terminal"
    for key in guarded.made.values():
        secret = key.split("_")[2].encode()
        assert secret not in metrics
        assert not [name for name, data in files.items() if secret in data]
    assert not [name for name, data in files.items() if TOKEN.encode() in data]


def test_check_warns_of_a_key_for_a_route_that_is_not_there(tmp_path):
    keys, config = tmp_path / "keys.toml", tmp_path / "shunt.toml"
    make = [SHUNT, "keys", "create", "--file", keys, "--name", "web"]
    make += ["--route", "chta*", "--route", "chat*", "--route", "x"]
    subprocess.run(make, capture_output=True, check=True, timeout=30)
    config.write_text(
        f'[auth]\nkeys = "{keys}"\n[providers.x]\nbase_url = "http://127.0.0.1:9"\n'
        '[[routes]]\nname = "chat"\nmatch = { path = "/v1/chat/completions" }\ntargets = ["x"]\n'
    )
    told = subprocess.run([SHUNT, "check", "--config", config], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0
    assert told.stderr == "warning: auth.keys: the key `web` may call `chta*`, and no route has such a name\n"


def test_off_loopback_the_admin_listener_needs_a_token(tmp_path):
    config = tmp_path / "shunt.toml"
    text = '[listen]\npublic = "127.0.0.1:0"\nadmin = "0.0.0.0:0"\n{auth}[providers.x]\nbase_url = "http://x"\n'
    config.write_text(text.format(auth=""))
    told = subprocess.run([SHUNT, "check", "--config", str(config)], capture_output=True, text=True)
    assert told.returncode == 1
    assert f"{config}:3:1: listen.admin: is not on loopback" in told.stderr
    told = subprocess.run(
        [SHUNT, "serve", "--config", str(config)], capture_output=True, text=True, timeout=30,
        cwd=tmp_path,
    )
    assert told.returncode == 1 and "auth.admin_token" in told.stderr
    config.write_text(text.format(auth='[auth]\nadmin_token = { env = "T" }\n'))
    for token, says in [("short", "can be guessed"), (None, "is not set")]:
        environment = {name: value for name, value in os.environ.items() if name != "T"}
        told = subprocess.run(
            [SHUNT, "serve", "--config", str(config)], capture_output=True, text=True, timeout=30, cwd=tmp_path,
            env=environment | ({"T": token} if token else {}),
        )
        assert told.returncode == 1 and says in told.stderr, told.stderr
