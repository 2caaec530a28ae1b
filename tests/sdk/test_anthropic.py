"""The official Anthropic SDK, with nothing changed but its base URL."""

import anthropic
import pytest

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(gateway):
    return anthropic.Anthropic(base_url=gateway.public, api_key="test-key")


def test_a_message_is_answered(client):
    answer = client.messages.create(model="claude", max_tokens=64, messages=MESSAGES)
    assert answer.content[0].text.startswith("word0 ")
    assert answer.usage.output_tokens == 16


def test_a_stream_arrives_token_by_token(client):
    with client.messages.stream(model="claude", max_tokens=64, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
    assert text.split() == [f"word{at}" for at in range(16)]


def test_a_tool_is_called(client):
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    answer = client.messages.create(
        model="claude", max_tokens=64, messages=MESSAGES, tools=tools
    )
    assert answer.content[0].name == "weather"


def test_a_call_over_its_budget_is_a_504_that_is_not_retried(gateway, client):
    with pytest.raises(anthropic.InternalServerError) as raised:
        client.messages.create(
            model="claude",
            max_tokens=64,
            messages=MESSAGES,
            extra_headers={"x-request-tag": "slow-message", "x-sim-latency-ms": "5000"},
        )
    assert raised.value.status_code == 504
    gateway.until(lambda: gateway.stats("slow-message").get("aborted") == 1)
    assert gateway.stats("slow-message")["received"] == 1


def test_a_wrong_key_is_the_sdks_authentication_error(gateway):
    client = anthropic.Anthropic(base_url=gateway.public, api_key="wrong-key")
    with pytest.raises(anthropic.AuthenticationError):
        client.messages.create(model="claude", max_tokens=64, messages=MESSAGES)
