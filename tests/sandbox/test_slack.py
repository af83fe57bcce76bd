"""The fake Slack, called with Slack's own client."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from sandbox import Sandbox

CHANNEL = "#sycon-alerts"


@pytest.fixture
def slack(sandbox: Sandbox) -> WebClient:
    """A client of the fake Slack, with a valid token."""
    environment = sandbox.environment()
    return WebClient(token=environment["SLACK_TOKEN"], base_url=environment["SLACK_API_URL"])


def section(text: str) -> dict[str, Any]:
    """Returns a block of text."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def plain(text: str) -> dict[str, Any]:
    """Returns a text object without markup."""
    return {"type": "plain_text", "text": text}


def button(text: str, address: str = "https://example.org") -> dict[str, Any]:
    """Returns a button with a link."""
    return {"type": "button", "text": plain(text), "url": address}


def test_every_valid_block_is_accepted(sandbox: Sandbox, slack: WebClient) -> None:
    """Each type of block is accepted at its limits. The page shows bold text, code and links as such."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": plain("h" * 150), "block_id": "top"},
        section("s" * 3_000),
        section("*bold* `code` <https://example.org/?a=1&amp;b=2|a link>"),
        {"type": "section", "fields": [plain("f" * 2_000)], "accessory": button("see")},
        {"type": "context", "elements": [plain("c")] * 10},
        {"type": "divider"},
        {"type": "actions", "elements": [button("y" * 75)]},
    ]
    slack.chat_postMessage(channel=CHANNEL, text="fallback", blocks=blocks)
    assert sandbox.slack()["messages"][0]["blocks"] == blocks
    page = requests.get(sandbox.url("slack") + "/", timeout=30).text
    assert '<b>bold</b> <code>code</code> <a href="https://example.org/?a=1&amp;b=2">a link</a>' in page


def test_a_thread_belongs_to_its_message(sandbox: Sandbox, slack: WebClient) -> None:
    """A message gets a timestamp, by which a reply refers to the message.

    The message and the reply are listed as they were posted.
    """
    first = slack.chat_postMessage(channel=CHANNEL, text="3 mismatches", blocks=[section("*3* mismatches")])
    slack.chat_postMessage(channel=CHANNEL, text="the details", thread_ts=first["ts"])
    messages = sandbox.slack()["messages"]
    assert [(each["channel"], each["text"], each["thread_ts"]) for each in messages] == [
        (CHANNEL, "3 mismatches", None),
        (CHANNEL, "the details", first["ts"]),
    ]
    assert messages[0]["blocks"] == [section("*3* mismatches")]
    assert messages[0]["ts"] < messages[1]["ts"]


def test_a_file_is_uploaded_in_three_steps(sandbox: Sandbox, slack: WebClient) -> None:
    """A file that is announced, uploaded and completed has the content, comment and thread that were sent."""
    content = "offenderNo,nomis,dps\n" + "A1234BC,STD,ENH\n" * 100_000
    parent = slack.chat_postMessage(channel=CHANNEL, text="report")
    slack.files_upload_v2(
        filename="report.csv",
        content=content,
        channel="C0SANDBOX1",
        initial_comment="all of them",
        thread_ts=parent["ts"],
    )
    (file,) = sandbox.slack()["files"]
    assert (file["filename"], file["complete"], file["channel"]) == ("report.csv", True, "C0SANDBOX1")
    assert (file["initial_comment"], file["thread_ts"]) == ("all of them", parent["ts"])
    assert file["content"] == content


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "blocks": [section("y")] * 51}, "invalid_blocks"),
        ({"text": "x", "blocks": [section("y" * 3_001)]}, "invalid_blocks"),
        ({"text": "x", "blocks": [section("")]}, "invalid_blocks"),
        ({"text": "x", "blocks": [section("y" * 2_900)] * 5}, "msg_blocks_too_long"),
        ({"text": "x", "blocks": ["y"]}, "invalid_blocks_format"),
        ({"text": "x", "blocks": [{"type": "heading"}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "header", "text": plain("y" * 151)}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "header", "text": section("y")["text"]}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{**section("y"), "colour": "red"}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{**section("y"), "block_id": "one"}] * 2}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "section", "fields": [plain("y")] * 11}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "section", "fields": [plain("y" * 2_001)]}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "context", "elements": [plain("y")] * 11}]}, "invalid_blocks"),
        ({"text": "x", "blocks": [{"type": "actions", "elements": [button("y" * 76)]}]}, "invalid_blocks"),
        (
            {"text": "x", "blocks": [{"type": "actions", "elements": [button("y", "https://" + "z" * 3_000)]}]},
            "invalid_blocks",
        ),
        ({"text": "x", "thread_ts": "1.1"}, "thread_not_found"),
    ],
)
def test_messages_beyond_the_limits_are_refused(
    sandbox: Sandbox, slack: WebClient, message: dict[str, Any], error: str
) -> None:
    """A message is refused if it is too long, has invalid or too many blocks, or replies to a missing message."""
    with pytest.raises(SlackApiError) as refusal:
        slack.chat_postMessage(channel=CHANNEL, **message)
    assert refusal.value.response["error"] == error
    assert sandbox.slack()["messages"] == []


def test_wrong_tokens_and_lengths_are_refused(sandbox: Sandbox, slack: WebClient) -> None:
    """A wrong token is refused, and so is an upload whose length differs from the announced length.

    A file cannot be completed in a channel that is given by name, or before its content has been uploaded.
    """
    with pytest.raises(SlackApiError, match="invalid_auth"):
        WebClient(token="xoxb-other", base_url=slack.base_url).chat_postMessage(channel=CHANNEL, text="x")
    offer = slack.files_getUploadURLExternal(filename="a.csv", length=5)
    assert requests.post(offer["upload_url"], b"toolong", timeout=30).status_code == 400
    with pytest.raises(SlackApiError, match="channel_not_found"):
        slack.files_completeUploadExternal(files=[{"id": offer["file_id"]}], channel_id=CHANNEL)
    with pytest.raises(SlackApiError, match="file_not_found"):
        slack.files_completeUploadExternal(files=[{"id": offer["file_id"]}], channel_id="C1")


def test_a_rate_limited_message_can_be_posted_later(sandbox: Sandbox, slack: WebClient) -> None:
    """A message over the rate limit gets 429 with Retry-After, and is accepted when it is posted again."""
    sandbox.fault("slack", path="chat.postMessage", kind="rate_limited", retry_after=3, times=1)
    with pytest.raises(SlackApiError) as refusal:
        slack.chat_postMessage(channel=CHANNEL, text="x")
    assert refusal.value.response.status_code == 429
    assert refusal.value.response.headers["Retry-After"] == "3"
    slack.chat_postMessage(channel=CHANNEL, text="x")
    assert len(sandbox.slack()["messages"]) == 1


def test_page_shows_what_was_posted_as_text(sandbox: Sandbox, slack: WebClient) -> None:
    """The page shows HTML in a message as text."""
    slack.chat_postMessage(channel=CHANNEL, text="<script>alert(1)</script>")
    page = requests.get(sandbox.url("slack") + "/", timeout=30)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>" not in page.text
