"""Executions that messages start, with a real NATS."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import nats

from levada import names
from levada.names import Kind
from tests.e2e.pipelines import condition
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until


def listening(space: Space, subject: str, **spec: Any) -> Any:
    """The Dataset of shops, which a message on a subject starts."""
    shops = next(d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops")
    return {**shops, "spec": {**shops["spec"], "triggers": [{"subject": subject}], **spec}}


def publish(space: Space, subject: str, *ids: str) -> None:
    async def send() -> None:
        bus = space.stores.nats
        connection = await nats.connect(bus.url, user=bus.user, password=bus.password)
        for id in ids:
            await connection.jetstream().publish(subject, b"", headers={"Nats-Msg-Id": f"{space.namespace}-{id}"})
        await connection.close()

    asyncio.run(send())


def unanswered(space: Space, subject: str) -> int:
    """Messages that were delivered and not acknowledged, or not delivered."""

    async def ask() -> int:
        bus = space.stores.nats
        connection = await nats.connect(bus.url, user=bus.user, password=bus.password)
        (consumer,) = await connection.jetstream().consumers_info(names.trigger_stream(subject))
        await connection.close()
        return (consumer.num_ack_pending or 0) + (consumer.num_pending or 0)

    return asyncio.run(ask())


def last(space: Space) -> tuple[str | None, str]:
    """The last message that was answered, and how many executions there were."""
    status = space.get(Kind.DATASET, "shops")["status"]
    return status.get("lastMessage"), status["execution"]["id"]


def test_ing4_a_message_starts_an_execution_and_is_acknowledged_once_it_is_answered(
    space: Space, tmp_path: Path
) -> None:
    subject = f"landing.{space.namespace}.shops"
    land(space, tmp_path)
    space.apply(listening(space, subject))
    space.wait(Kind.DATASET, "shops", "Ready")
    _, first = last(space)

    publish(space, subject, "one")

    until(lambda: last(space)[0] == f"{space.namespace}-one", space.operator)
    until(lambda: unanswered(space, subject) == 0, space.operator)
    found = space.wait(Kind.DATASET, "shops", "Ready")
    assert found["status"]["execution"]["trigger"] == f"message {space.namespace}-one"
    assert found["status"]["execution"]["id"] != first


def test_ing4_a_message_that_came_while_no_operator_ran_is_answered(space: Space, tmp_path: Path) -> None:
    subject = f"landing.{space.namespace}.shops"
    land(space, tmp_path)
    space.apply(listening(space, subject))
    space.wait(Kind.DATASET, "shops", "Ready")
    until(lambda: unanswered(space, subject) == 0, space.operator)  # it listens

    space.end(signal.SIGKILL)
    publish(space, subject, "one", "two")
    space.start()

    until(lambda: last(space)[0] == f"{space.namespace}-two", space.operator)
    space.wait(Kind.DATASET, "shops", "Ready")
    until(lambda: unanswered(space, subject) == 0, space.operator)
    assert len(space.jobs()) == 2  # one execution answers both


def test_ing4_what_cannot_be_listened_to_is_said_in_the_status(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)
    space.apply(listening(space, ">"))

    def said() -> bool:
        found = condition(space.get(Kind.DATASET, "shops"), "Reconciling")
        return "keeps only a part of the subject '>'" in found.get("message", "")

    until(said, space.operator)
    space.wait(Kind.DATASET, "shops", "Ready")  # and all else goes on
