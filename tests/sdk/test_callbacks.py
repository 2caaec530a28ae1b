"""Callbacks of a real gateway: where they may go, how they are signed, what becomes of dead ones."""

import base64
import json
import os
import socket
import subprocess

import pytest

import standardwebhooks

from conftest import SECRET, House

SEED = os.urandom(32)
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}

HOSTS = """
127.0.0.1 127.0.0.1. 127.0.0.2 127.0.0.53 127.1.2.3 127.255.255.254 0.0.0.0 127.1 127.0.1 2130706433
017700000001 0x7f000001 0x7f.1 0x7f.0.0.1 0177.0.0.1 0177.0.0.01 00000127.0.0.1 127.0.0.0x1 0
localhost LOCALHOST localhost. x.localhost ip6-localhost [::1] [::] [0:0:0:0:0:0:0:1]
[::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1]
[2002:7f00:1::] [2001:0:7f00:1::] [fe80::1] [fe80::1%25lo] [fc00::1] [fd00:ec2::254] [ff02::1]
[127.0.0.1] [localhost] user@127.0.0.1 user:word@127.0.0.1 example.com@127.0.0.1 @127.0.0.1
example.com\\@127.0.0.1 127.0.0.1%2f.example.com 127%2e0%2e0%2e1 127.0.0.1%00.example.com
10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 100.100.100.200 168.63.129.16
192.0.0.192 198.18.0.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 metadata.google.internal
""".split()

SCHEMES = ["https", "http", "HTTP", "ftp", "gopher", "file", "ws", "dict"]


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    """A gateway that signs with an ed25519 key too, and gives up after the second delivery."""
    folder = tmp_path_factory.mktemp("signing")
    (folder / "key").write_text("whsk_" + base64.b64encode(SEED).decode() + "\n")
    key = f'signing_key = {{ file = "{folder}/key" }}\n'
    house = House(
        folder, lambda text: text.replace('schedule = ["1s", "1s"]', 'schedule = ["50ms"]') + key
    )
    yield house.begin()
    house.close()


def demote(gateway, path):
    status, _, answer = gateway.call(
        "/v1/chat/completions", BODY, prefer="respond-async, wait=0",
        x_shunt_callback=gateway.receiver.url(path),
    )
    assert status == 202, answer
    return gateway.public + json.loads(answer)["links"]["self"]


def test_no_spelling_of_an_inside_address_is_taken_and_no_listener_is_reached(gateway):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        urls = [f"https://{host}:{port}/" for host in HOSTS]
        urls += [f"{scheme}://127.0.0.1:{port}/" for scheme in SCHEMES]
        urls += [f"https://127.0.0.1:{port}#@example.com/", f"https:127.0.0.1:{port}/", f"//127.0.0.1:{port}/"]
        assert len(urls) >= 60
        for url in urls:
            status, _, answer = gateway.call(
                "/v1/embeddings", BODY, prefer="respond-async, wait=0", x_shunt_callback=url
            )
            error = json.loads(answer)["error"]
            assert (status, error["code"]) == (400, "bad_request"), (url, answer)
            assert "callback address is refused: " in error["message"], (url, answer)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_callback_carries_a_signature_that_the_public_key_verifies(signing):
    status, headers, answer = signing.fetch(signing.public + "/.well-known/shunt-callback-keys")
    assert (status, headers["content-type"]) == (200, "application/json")
    [key] = json.loads(answer)["data"]
    assert key["key"].startswith("whpk_") and key["id"]
    demote(signing, "v1a")
    [(_, headers, body)] = signing.receiver.wait_for("v1a")
    assert standardwebhooks.Webhook(SECRET).verify(body, headers)["type"] == "job.succeeded"
    [hmac, ed25519] = headers["webhook-signature"].split(" ")
    assert hmac.startswith("v1,") and ed25519.startswith("v1a,")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert verified(key["key"], signed, ed25519)
    assert not verified(key["key"], signed + b" ", ed25519)


def verified(key, signed, signature):
    """Node's own crypto, which knows nothing of ours."""
    script = """
        const [key, signed, signature] = process.argv.slice(1).map((one) => Buffer.from(one, "base64"));
        const prefix = Buffer.from("302a300506032b6570032100", "hex");
        const der = Buffer.concat([prefix, key]);
        const made = require("crypto").createPublicKey({ key: der, format: "der", type: "spki" });
        console.log(require("crypto").verify(null, signed, made, signature));
    """
    text = [key.removeprefix("whpk_"), base64.b64encode(signed).decode(), signature.removeprefix("v1a,")]
    done = subprocess.run(["node", "-e", script, *text], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "true"


def test_a_gateway_without_a_signing_key_shows_an_empty_list(gateway):
    status, _, answer = gateway.fetch(gateway.public + "/.well-known/shunt-callback-keys")
    assert (status, json.loads(answer)) == (200, {"object": "list", "data": []})
    status, _, _ = gateway.fetch(gateway.public + "/.well-known/openid-configuration")
    assert status == 404


def test_a_callback_that_is_given_up_is_counted_and_says_why_on_its_job(signing):
    signing.receiver.failures = 2
    job = demote(signing, "dead")
    signing.receiver.wait_for("dead", count=2)

    def dead():
        _, _, answer = signing.fetch(job)
        callback = json.loads(answer)["callback"]
        if callback["status"] != "dead":
            return False
        assert callback["deliveries"] == 2
        assert callback["last_error"].startswith("the receiver answered 500")
        return True

    signing.until(dead)
    _, _, metrics = signing.fetch(signing.admin + "/metrics")
    lines = metrics.decode().splitlines()
    assert "shunt_callbacks_dead 1" in lines
    assert 'shunt_callbacks_total{result="dead"} 1' in lines
