"""A stop lets jobs end; a second signal cuts them short, and they run again at the next start."""

import json
import os
import signal
import time

from conftest import House


def test_a_second_signal_cuts_a_drain_short_and_loses_no_job(tmp_path):
    house = House(tmp_path)
    gateway, receiver = house.begin(), house.receiver
    process = house.processes[0]
    body = {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": "5000"}}
    status, _, answer = gateway.call(
        "/v1/chat/completions", body, prefer="respond-async, wait=1", x_shunt_budget="200ms",
        x_shunt_callback=receiver.url("job"),
    )
    assert status == 202, answer
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None, "the job was not let run"
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=4) == 0

    house.begin()
    told = receiver.wait_for("job", seconds=30)
    assert json.loads(told[0][2])["data"]["attempts"] == 2
    house.close()
