"""What `/api/live` streams: one snapshot a second of a gateway under load, shared by all who listen."""

import contextlib
import http.client
import json
import threading
import time

import openai

from conftest import House, stop, until


class Listener:
    """Reads server-sent events of an admin listener."""

    def __init__(self, admin, query=""):
        host = admin.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=20)
        self.connection.request("GET", "/api/live" + query)
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        self.type = self.answer.headers["content-type"]

    def __iter__(self):
        name = None
        while line := self.answer.readline().decode():
            if line.startswith("event: "):
                name = line[7:].strip()
            if line.startswith("data: "):
                yield name, json.loads(line[6:])

    def close(self):
        self.connection.close()


@contextlib.contextmanager
def load(gateway, threads=3):
    """Calls of every kind until it is left: whole, streamed, refused, too slow."""
    over = threading.Event()

    def ask(number):
        client = openai.OpenAI(base_url=gateway.public + "/v1", api_key=f"k{number}", max_retries=0)
        messages = [{"role": "user", "content": "Hi"}]
        for turn in range(10_000):
            if over.is_set():
                return
            extra = [{}, {}, {"metadata": {"sim_status": "500"}}, {"metadata": {"sim_latency_ms": "1500"}}][turn % 4]
            with contextlib.suppress(openai.APIError):
                answer = client.chat.completions.create(
                    model="gpt-4o", messages=messages, stream=turn % 2 == 0, extra_body=extra
                )
                if turn % 2 == 0:
                    list(answer)

    crowd = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(threads)]
    for one in crowd:
        one.start()
    yield
    over.set()
    for one in crowd:
        one.join(timeout=20)


def of(snapshot, route):
    return next(one for one in snapshot["routes"] if one["name"] == route)


def test_a_snapshot_a_second_tells_the_load_of_a_route(gateway):
    listener = Listener(gateway.admin, "?route=chat")
    assert (listener.status, listener.type) == (200, "text/event-stream")
    began, snapshots, details = time.monotonic(), [], []
    with load(gateway):
        for name, data in listener:
            (snapshots if name == "snapshot" else details).append(data)
            if len(details) == 8:
                break
    listener.close()
    assert 6 < time.monotonic() - began < 15
    assert len(snapshots) == 8
    moments = [one["at"] for one in snapshots]
    assert all(later - before > 0.5 for before, later in zip(moments, moments[1:]))
    first, last = snapshots[0], snapshots[-1]
    assert last["gateway"]["store_ready"] is True
    assert last["gateway"]["version"] and not last["gateway"]["draining"]
    chat = of(last, "chat")
    assert of(first, "chat")["per_second"] is None
    assert chat["per_second"]["calls"] > 0.5
    assert chat["per_second"]["failed"] > 0 and chat["per_second"]["served"] > 0
    flow = chat["total"]
    parts = ("served", "demoted", "failed", "cancelled", "observed_over")
    assert flow["calls"] == sum(flow[part] for part in parts)
    assert chat["budget"] == {"first_token": 1.0, "total": 1.0}
    assert chat["over_budget"] == {"action": "demote", "unasked": "fail"}
    for phase in ("first_token", "duration"):
        minute = chat[phase]["1m"]
        assert minute["count"] > 0
        assert 0 < minute["p50"] <= minute["p95"] <= minute["p999"] <= minute["max"]
    assert chat["duration"]["1m"]["over"] > 0
    target = chat["targets"][0]
    assert (target["name"], target["health"], target["share"]) == ("sim", "healthy", 1.0)
    assert not chat["built_in"] and of(last, "sim")["built_in"]
    assert "jobs" in last and last["jobs"]["dead_callbacks"] >= 0
    points = details[-1]["curves"]["total"]["1m"]
    assert points == sorted(points) and points[-1][0] == 1
    heat = details[0]["heat"]["total"]
    assert [bool(one["heat"]) for one in details] == [True] + [False] * 7
    assert len(heat["rows"]) == 41 and 1 <= len(heat["columns"]) <= 61


def test_the_heatmap_counts_the_calls_of_each_minute(gateway):
    with load(gateway, 1):
        time.sleep(1.5)
    status, _, text = gateway.fetch(gateway.admin + "/api/routes/chat/heatmap")
    assert status == 200
    for phase in ("first_token", "total"):
        heat = json.loads(text)[phase]
        assert heat["column"] == 60.0
        assert sum(sum(column["counts"]) for column in heat["columns"]) > 0
        assert abs(heat["began"] - time.time()) < 62
    assert gateway.fetch(gateway.admin + "/api/routes/nobody/heatmap")[0] == 404


def test_once_is_one_snapshot_with_rates(gateway):
    status, headers, text = gateway.fetch(gateway.admin + "/api/live?once=true")
    assert (status, headers["content-type"]) == (200, "application/json")
    told = json.loads(text)
    assert all(one["per_second"] is not None for one in told["routes"])
    assert gateway.fetch(gateway.admin + "/api/live?route=nobody")[0] == 404


def test_listeners_are_bounded_and_leave_their_places(gateway):
    crowd = [Listener(gateway.admin) for _ in range(16)]
    assert [one.status for one in crowd] == [200] * 16
    status, headers, text = gateway.fetch(gateway.admin + "/api/live")
    assert (status, headers["retry-after"]) == (503, "5") and b"close a page" in text
    for one in crowd:
        one.close()

    def free():
        one = Listener(gateway.admin)
        one.close()
        return one.status == 200

    until(free, 10, every=0.2)


def test_a_stop_does_not_wait_for_listeners_and_leaves_no_task(tmp_path):
    house = House(tmp_path)
    try:
        gateway = house.begin()
        crowd = [Listener(gateway.admin, "?route=chat") for _ in range(3)]
        for one in crowd:
            next(iter(one))
        began = time.monotonic()
        stop(house.processes[0])
        assert time.monotonic() - began < 10
        for one in crowd:
            with contextlib.suppress(http.client.HTTPException, OSError):
                list(one)
    finally:
        house.close()
