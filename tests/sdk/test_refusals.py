"""No 202 that is not durable: a full disk, a corrupt file, a full queue."""

import json
import subprocess

import conftest
import pytest
from conftest import CONFIG, SHUNT, Gateway, start, stop

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 20_000}]}


@pytest.fixture
def place(tmp_path):
    simulator, found = start(["simulate", "--listen", "127.0.0.1:0"], "simulate")
    config = tmp_path / "shunt.toml"
    config.write_text(CONFIG.format(simulator=found["simulate"], folder=tmp_path, hook=1))
    yield config, found["simulate"]
    stop(simulator)


def serve(config, simulator):
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    return process, Gateway(found["public"], found["admin"], simulator, None)


def demote(gateway):
    body = BODY | {"metadata": {"sim_latency_ms": "20000"}}
    return gateway.call("/v1/chat/completions", body, prefer="respond-async, wait=0")


def test_with_a_full_disk_every_202_is_kept_and_all_else_is_refused(place, tmp_path, monkeypatch):
    config, simulator = place
    limited = tmp_path / "limited"
    # Blocks of 512 bytes: no file of the gateway grows past 250 KiB.
    limited.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 500\nexec "{SHUNT}" "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setattr(conftest, "SHUNT", str(limited))
    process, gateway = serve(config, simulator)
    assert gateway.fetch(gateway.admin + "/readyz")[0] == 200
    kept, refused = [], 0
    for _ in range(40):
        status, headers, answer = demote(gateway)
        if status == 202:
            kept.append(json.loads(answer)["id"])
        else:
            assert status == 503 and "Retry-After" in {name.title() for name in headers}, answer
            assert json.loads(answer)["error"]["code"] == "overloaded"
            refused += 1
    assert kept and refused
    status, _, says = gateway.fetch(gateway.admin + "/readyz")
    assert status == 503 and b"cold.store" in says, says
    # What needs no store goes on.
    assert gateway.call("/v1/chat/completions", BODY)[0] == 200
    assert gateway.fetch(gateway.admin + "/healthz")[0] == 200
    process.kill()
    process.wait()
    monkeypatch.setattr(conftest, "SHUNT", SHUNT)
    process, gateway = serve(config, simulator)
    for job in kept:
        assert gateway.fetch(f"{gateway.public}/jobs/{job}")[0] == 200
    _, _, found = gateway.fetch(gateway.admin + "/api/jobs?limit=100")
    assert {job["id"] for job in json.loads(found)["data"]} == set(kept)
    assert gateway.fetch(gateway.admin + "/readyz")[0] == 200
    process.kill()
    process.wait()


def test_a_corrupt_file_is_one_sentence_and_exit_1(place, tmp_path):
    config, _ = place
    (tmp_path / "jobs.db").write_bytes(b"this is no database " * 1_000)
    done = subprocess.run(
        [SHUNT, "serve", "--config", str(config)], capture_output=True, text=True, timeout=30,
        env={"SHUNT_CALLBACK_SECRET": conftest.SECRET},
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "jobs.db" in done.stderr and "not a database" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_past_the_queue_limit_a_call_is_refused_and_told_when_to_come_back(place):
    config, simulator = place
    config.write_text(config.read_text().replace("[cold]\n", "[cold]\nqueue_limit = 2\n"))
    process, gateway = serve(config, simulator)
    answers = [demote(gateway) for _ in range(3)]
    assert [status for status, _, _ in answers] == [202, 202, 503]
    assert b"cold.queue_limit" in answers[2][2]
    assert gateway.call("/v1/chat/completions", BODY)[0] == 200
    process.kill()
    process.wait()
