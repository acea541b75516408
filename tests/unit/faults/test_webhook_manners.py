"""The receiver of the workloads answers in the manner that it is told, and counts what it did."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.faults.manners import Manner
from tests.services.waiting import wait_until
from tests.workloads.installation import SECRET
from tests.workloads.webhook import Webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A receiver of this test."""
    with Webhook(SECRET) as receiver:
        yield receiver


def posted(webhook: Webhook, number: int) -> int:
    """Deliver something; return the status, or raise what the connection did."""
    parts = urlsplit(webhook.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        headers = {"webhook-id": f"msg_{number}", "webhook-timestamp": "1", "webhook-signature": "v1,none"}
        connection.request("POST", parts.path, json.dumps({"data": number}), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def taken(webhook: Webhook) -> list[str]:
    """Return the ids of what it has."""
    return [delivery.webhook_id for delivery in webhook.deliveries]


def test_what_is_rejected_is_not_taken(webhook: Webhook) -> None:
    """And what comes afterwards is."""
    webhook.put(Manner.REJECT)
    assert posted(webhook, 1) == 503
    webhook.put(Manner.TAKE)
    assert posted(webhook, 2) == 204

    assert taken(webhook) == ["msg_2"]
    assert webhook.did[Manner.REJECT] == webhook.refused == 1


def test_a_lost_answer_is_lost_behind_the_deed(webhook: Webhook) -> None:
    """The sender sees its connection end."""
    webhook.put(Manner.FAIL_AFTER_WRITE)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        posted(webhook, 1)

    assert taken(webhook) == ["msg_1"]


def test_an_answer_that_is_held_comes_when_it_is_let_go(webhook: Webhook) -> None:
    """It is taken at once, and said later."""
    webhook.put(Manner.HOLD)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(posted(webhook, 1)))
    thread.start()
    wait_until(lambda: taken(webhook) == ["msg_1"], "it is taken")
    assert statuses == []
    webhook.put(Manner.TAKE)
    thread.join(20)

    assert statuses == [204]


def test_a_slow_one_takes_it(webhook: Webhook) -> None:
    """Later."""
    webhook.put(Manner.SLOW)
    webhook.slow_seconds = 0.01

    assert posted(webhook, 1) == 204
    assert webhook.did[Manner.SLOW] == 1
