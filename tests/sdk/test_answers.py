"""What of a provider's answer reaches its caller, at once, as a job's result and in a callback."""

import json

import pytest
from scripted import Scene

# Of the provider's connection, or of its host: a caller would take them for the gateway's.
STAY = {"alt-svc", "strict-transport-security", "x-edge"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("answers"))
    yield scene
    scene.close()


def passes(headers):
    assert headers["openai-processing-ms"] == "17"
    assert not STAY & {name.lower() for name in headers}


def test_what_a_provider_says_of_its_host_and_connection_stays_there(scene):
    (status, headers, _), _ = scene.call()
    assert status == 200
    passes(headers)


def test_nor_does_it_come_with_a_jobs_result_or_in_its_callback(scene):
    hook = scene.receiver.url("answers")
    (status, headers, _), _ = scene.call(prefer="respond-async, wait=0", x_shunt_callback=hook)
    assert status == 202
    result = scene.gateway.public + headers["location"] + "/result"
    status, headers, _ = scene.gateway.fetch(result, headers={"prefer": "wait=10"})
    assert status == 200
    passes(headers)
    _, _, body = scene.receiver.wait_for("answers")[0]
    passes(json.loads(body)["data"]["response"]["headers"])
