"""What a gateway keeps, logs and counts: no credentials in clear, and with seal = "all" no content."""

import base64
import json
import os
import subprocess

import pytest

from conftest import CONFIG, SECRET, SHUNT, Gateway, Receiver, start, stop

CREDENTIALS = [b"mark-bearer", b"mark-x-api-key", b"mark-cookie", b"mark-query-key"]
# The simulator's answers are words: word0 word1 word2.
CONTENT = [b"mark-prompt", b"mark-metadata", b"mark-hook-token", b"word1 word2"]
KEY = "k1:" + base64.b64encode(os.urandom(32)).decode()


def configured(tmp_path, simulator, receiver, lines):
    config = tmp_path / "shunt.toml"
    text = CONFIG.format(simulator=simulator, folder=tmp_path, hook=receiver.server_address[1])
    config.write_text(text.replace("[callbacks]", lines + "\n[callbacks]"))
    return config


def serve(config, log, **environment):
    """A gateway that logs all it can into a file."""
    environment = dict(os.environ, SHUNT_CALLBACK_SECRET=SECRET, SHUNT_LOG="trace", **environment)
    process = subprocess.Popen(
        [SHUNT, "serve", "--config", str(config)], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=log,
    )
    lines = [process.stdout.readline().split()[-1] for _ in range(2)]
    return process, lines


def use(gateway, receiver):
    """Calls of each kind that leave something in the store."""
    def call(path, body, **headers):
        body = {"model": "gpt-4o", **body}
        while True:
            told = gateway.call(path, body, **headers)
            # A busy machine: the store did not answer within half a second.
            if told[0] != 503:
                return told

    hook = receiver.url("done?token=mark-hook-token")
    secrets = {"authorization": "Bearer mark-bearer", "cookie": "session=mark-cookie"}
    demoted = {"prefer": "respond-async, wait=0"}
    ids = []
    for path, body, headers in [
        ("/v1/chat/completions?key=mark-query-key",
         {"messages": [{"role": "user", "content": "mark-prompt"}]}, secrets),
        ("/v1/responses", {"input": "mark-prompt", "metadata": {"a": "mark-metadata"}}, secrets),
        # Longer than what stands with its row.
        ("/v1/chat/completions",
         {"messages": [{"role": "user", "content": "mark-prompt" + " x" * 140_000}]},
         {"x_api_key": "mark-x-api-key"}),
    ]:
        status, head, answer = call(path, body, **headers, **demoted, x_shunt_callback=hook)
        assert status == 202, answer
        ids.append((head["location"].rsplit("/")[-1], headers))
    asked = {"messages": []}
    status, _, answer = call("/v1/chat/completions", asked, **secrets, idempotency_key="K")
    assert status == 200, answer
    for job, headers in ids:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        show = lambda: json.loads(gateway.fetch(f"{gateway.public}/jobs/{job}", headers=headers)[2])
        gateway.until(lambda: show()["status"] == "succeeded")
        gateway.until(lambda: show()["callback"]["status"] == "delivered")
        _, _, answer = gateway.fetch(f"{gateway.public}/jobs/{job}/result", headers=headers)
        assert b"word1 word2" in answer
    return ids


def found(folder, marks):
    texts = [path.read_bytes() for path in folder.iterdir() if path.name != "shunt.toml"]
    return [mark for mark in marks if any(mark in text for text in texts)]


@pytest.mark.parametrize("seal", ["credentials", "all"])
def test_nothing_that_is_sealed_stands_in_a_file_a_log_or_a_metric(tmp_path, seal):
    receiver = Receiver()
    simulator, found_at = start(["simulate", "--listen", "127.0.0.1:0"], "simulate")
    lines = f'seal = "{seal}"\nseal_keys_env = "SHUNT_TEST_KEYS"'
    config = configured(tmp_path, found_at["simulate"], receiver, lines)
    with open(tmp_path / "log", "w") as log:
        process, (public, admin) = serve(config, log, SHUNT_TEST_KEYS=KEY)
        gateway = Gateway(public, admin, found_at["simulate"], receiver)
        use(gateway, receiver)
        (tmp_path / "metrics").write_bytes(gateway.fetch(admin + "/metrics")[2])
        (tmp_path / "routes").write_bytes(gateway.fetch(admin + "/api/routes")[2])
        assert found(tmp_path, CREDENTIALS) == []
        # In clear where it may be: so this test is known to find what there is.
        clear = [] if seal == "all" else CONTENT
        assert found(tmp_path, CONTENT) == clear
        stop(process)
    assert found(tmp_path, CREDENTIALS) == []
    assert found(tmp_path, [KEY.split(":")[1].encode()]) == []
    assert (tmp_path / "log").stat().st_size > 0
    elsewhere = [tmp_path / "log", tmp_path / "metrics", tmp_path / "routes"]
    for mark in CONTENT:
        assert not any(mark in path.read_bytes() for path in elsewhere), mark
    assert not (tmp_path / "jobs.db.key").exists()
    stop(simulator)
    receiver.shutdown()


def test_keys_rotate_and_a_missing_one_is_told_by_its_job(tmp_path):
    receiver = Receiver()
    simulator, found_at = start(["simulate", "--listen", "127.0.0.1:0"], "simulate")
    lines = 'seal = "all"\nseal_keys_env = "SHUNT_TEST_KEYS"'
    config = configured(tmp_path, found_at["simulate"], receiver, lines)
    newer = "k2:" + base64.b64encode(os.urandom(32)).decode()
    headers = {"authorization": "Bearer mark-bearer"}

    def result(keys):
        with open(tmp_path / "log", "a") as log:
            process, (public, admin) = serve(config, log, SHUNT_TEST_KEYS=keys)
            gateway = Gateway(public, admin, found_at["simulate"], receiver)
            if not ids:
                ids.extend(job for job, head in use(gateway, receiver) if head.get("authorization"))
            status, _, answer = gateway.fetch(f"{public}/jobs/{ids[0]}/result", headers=headers)
            shown = gateway.fetch(f"{public}/jobs/{ids[0]}", headers=headers)
            body = {"model": "gpt-4o", "messages": []}
            fine, _, _ = gateway.call("/v1/chat/completions", body, prefer="respond-async, wait=0")
            stop(process)
            return status, answer, shown[0], fine

    ids = []
    assert result(KEY)[0] == 200
    assert result(f"{newer},{KEY}")[0] == 200
    status, answer, shown, fine = result(newer)
    assert (status, shown, fine) == (503, 200, 202)
    assert "the key `k1`" in json.loads(answer)["detail"]
    stop(simulator)
    receiver.shutdown()


def test_a_wrong_key_is_refused_at_the_start_and_never_shown(tmp_path):
    receiver = Receiver()
    lines = 'seal_keys_env = "SHUNT_TEST_KEYS"'
    config = configured(tmp_path, "http://127.0.0.1:9", receiver, lines)
    secret = base64.b64encode(os.urandom(31)).decode()
    for value, says in [(f"k1:{secret}", "key 1 is wrong"), ("", "SHUNT_TEST_KEYS is not set")]:
        environment = dict(os.environ, SHUNT_CALLBACK_SECRET=SECRET, SHUNT_TEST_KEYS=value)
        done = subprocess.run(
            [SHUNT, "serve", "--config", str(config)], env=environment, text=True,
            capture_output=True, timeout=30,
        )
        assert done.returncode != 0
        assert says in done.stderr and secret not in done.stderr, done.stderr
    config.write_text(config.read_text().replace(lines, ""))
    (tmp_path / "jobs.db.key").write_bytes(os.urandom(32))
    os.chmod(tmp_path / "jobs.db.key", 0o644)
    environment = dict(os.environ, SHUNT_CALLBACK_SECRET=SECRET)
    done = subprocess.run(
        [SHUNT, "serve", "--config", str(config)], env=environment, text=True,
        capture_output=True, timeout=30,
    )
    assert done.returncode != 0 and "chmod 600" in done.stderr, done.stderr
