"""kill -9 while jobs run and wait; after a restart every one finishes and is called back once."""

import json
import os
import signal
import threading

from conftest import House

RUNNING, WAITING = 40, 40


def test_no_job_is_lost_when_the_process_is_killed(tmp_path):
    house = House(tmp_path)
    gateway, receiver = house.begin(), house.receiver
    ids = []

    def demote(at, wait):
        body = {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": "3000"}}
        status, _, answer = gateway.call(
            "/v1/chat/completions", body, prefer=f"respond-async, wait={wait}",
            x_shunt_budget="200ms", x_shunt_callback=receiver.url(f"job-{at}"),
        )
        assert status == 202, answer
        ids.append(json.loads(answer)["id"])

    threads = [
        threading.Thread(target=demote, args=(at, 1 if at < RUNNING else 0))
        for at in range(RUNNING + WAITING)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(ids) == RUNNING + WAITING
    os.kill(house.processes[0].pid, signal.SIGKILL)
    house.processes[0].wait()

    gateway = house.begin()
    for at in range(RUNNING + WAITING):
        told = receiver.wait_for(f"job-{at}", seconds=60)
        assert len({headers["webhook-id"] for _, headers, _ in told}) == 1
        assert json.loads(told[0][2])["type"] == "job.succeeded"
    for job in ids:
        _, _, answer = gateway.fetch(f"{gateway.public}/jobs/{job}")
        assert json.loads(answer)["status"] == "succeeded"
    house.close()
