"""`shunt jobs` and the admin API behind it, through the real binary."""

import json
import subprocess

from conftest import SHUNT


def shunt_jobs(gateway, *arguments, admin=None):
    command = [SHUNT, "jobs", *arguments, "--admin", admin or gateway.admin]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def told(gateway, *arguments):
    done = shunt_jobs(gateway, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def demote(gateway, key, metadata, **headers):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "whisper"}], "metadata": metadata}
    status, _, answer = gateway.call(
        "/v1/chat/completions", body, prefer="respond-async, wait=0",
        authorization=f"Bearer {key}", **headers,
    )
    assert status == 202, answer
    return json.loads(answer)["id"]


def test_jobs_of_all_callers_are_listed_and_filtered_without_their_secrets(gateway):
    one = demote(gateway, "first-secret", {})
    two = demote(gateway, "second-secret", {"sim_latency_ms": "20000"})
    gateway.until(lambda: told(gateway, "show", one)["status"] == "succeeded")
    gateway.until(lambda: told(gateway, "show", two)["status"] == "running")
    ids = lambda *filters: [job["id"] for job in told(gateway, "list", *filters)["data"]]
    assert ids("--limit", "2") == [two, one]
    assert ids("--limit", "1", "--after", two) == [one]
    assert two in ids("--status", "running") and one not in ids("--status", "running")
    assert two in ids("--route", "chat") and ids("--route", "no such & route") == []
    text = shunt_jobs(gateway, "list").stdout + shunt_jobs(gateway, "show", one).stdout
    text += json.dumps(told(gateway, "show", one))
    assert one in text and "STATUS" in text and "sim" in text
    assert "secret" not in text and "whisper" not in text
    told(gateway, "cancel", two)


def test_a_job_is_shown_with_what_became_of_each_attempt_and_runs_again(gateway):
    job = demote(gateway, "k", {"sim_status": "400"})
    gateway.until(lambda: told(gateway, "show", job)["status"] == "failed")
    shown = told(gateway, "show", job)
    [attempt] = shown["history"]
    assert (attempt["number"], attempt["target"], attempt["result"], attempt["status"]) == (1, "sim", "failed", 400)
    assert attempt["began"] <= attempt["ended"] and attempt["gateway"]
    again = told(gateway, "retry", job)
    assert again["status"] == "queued" and again["attempts"] == 0
    assert again["expires_at"] > shown["expires_at"]
    # The same request, with its credentials, was sent once more.
    gateway.until(lambda: len(told(gateway, "show", job)["history"]) == 2)
    assert told(gateway, "show", job)["history"][1]["status"] == 400


def test_a_cancelled_job_stops_at_the_provider_and_runs_again_to_its_end(gateway):
    job = demote(gateway, "k", {"sim_latency_ms": "1500"})
    gateway.until(lambda: told(gateway, "show", job)["status"] == "running")
    assert told(gateway, "cancel", job)["status"] == "cancelled"
    gateway.until(lambda: told(gateway, "show", job)["history"])
    assert told(gateway, "show", job)["history"][0]["result"] == "cancelled"
    told(gateway, "retry", job)
    gateway.until(lambda: told(gateway, "show", job)["status"] == "succeeded")
    status, _, _ = gateway.fetch(f"{gateway.public}/jobs/{job}/result", headers={"authorization": "Bearer k"})
    assert status == 200


def test_a_delivered_callback_is_delivered_again_under_the_same_id(gateway):
    job = demote(gateway, "k", {}, x_shunt_callback=gateway.receiver.url("told-again"))
    gateway.receiver.wait_for("told-again")
    gateway.until(lambda: told(gateway, "show", job)["callback"]["status"] == "delivered")
    assert told(gateway, "replay-callback", job)["callback"]["status"] == "pending"
    received = gateway.receiver.wait_for("told-again", count=2)
    assert len({headers["webhook-id"] for _, headers, _ in received}) == 1


def test_what_cannot_be_done_is_one_sentence_and_exit_1(gateway):
    job = demote(gateway, "k", {})
    gateway.until(lambda: told(gateway, "show", job)["status"] == "succeeded")
    nobody = "job_" + "0" * 32
    for arguments, admin, says in (
        (("show", nobody), None, "there is no job"),
        (("show", "nonsense"), None, "is no job's id"),
        (("cancel", job), None, "nothing to cancel"),
        (("retry", job), None, "only one that is failed, expired or cancelled"),
        (("replay-callback", job), None, "there is nothing to deliver"),
        (("list", "--status", "lost"), None, "use one of queued, running"),
        (("list",), "http://127.0.0.1:9", "name its admin listener with --admin"),
        (("list",), "nonsense", "write it as http://"),
        (("list",), gateway.public, "--admin"),
    ):
        done = shunt_jobs(gateway, *arguments, admin=admin)
        assert done.returncode == 1 and done.stdout == "", arguments
        assert says in done.stderr and done.stderr.count("\n") == 1, done.stderr
