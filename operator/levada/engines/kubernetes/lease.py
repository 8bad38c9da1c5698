"""Which replica is the active one: a Lease, kept as client-go's leader election keeps it.

Whoever holds the Lease renews it; the others look by their own clocks whether it still changes, since the clocks of
machines differ. A Lease does not fence by itself: a holder that was stopped does not know. So `check` is asked right
before each write, and refuses some seconds before another may take over; what was on its way then meets preconditions.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import structlog
from kubernetes import client

from levada.engines.kubernetes.cluster import Conflict, Refused, Unavailable, errors, is_missing, micro_time
from levada.errors import LevadaError

log = structlog.get_logger()

Document = dict[str, Any]

_MANAGER = "levada-lease"
_RELEASE_SECONDS = 5.0


class LeaseLost(LevadaError):
    """Another replica may be the active one by now: nothing may be written any more."""


@dataclass(frozen=True)
class LeaseTimes:
    """In seconds, as client-go names them: `duration` > `renew_deadline` > `retry`; raises ValueError otherwise."""

    duration: float = 15.0  # how long others wait after a renewal that they have seen
    renew_deadline: float = 10.0  # how long the holder acts after its last renewal
    retry: float = 2.0  # between attempts

    def __post_init__(self) -> None:
        if not self.duration > self.renew_deadline > self.retry > 0:
            given = f"{self.duration:g} s, {self.renew_deadline:g} s and {self.retry:g} s"
            raise ValueError(f"a lease's duration, renewal deadline and retry must get shorter, and are {given}")


class Lease:
    """A Lease that this replica holds or waits for. `check` may be called by any thread."""

    def __init__(
        self, api: client.ApiClient, namespace: str, name: str, identity: str = "", times: LeaseTimes | None = None
    ) -> None:
        self._api = client.CoordinationV1Api(api)
        self._namespace = namespace
        self._name = name
        self._times = times or LeaseTimes()
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self._held: Document | None = None  # as it was written last
        self._until = 0.0  # until when it may be acted upon
        self._watched = ("", 0.0)  # the version that another wrote, and when it was first seen
        # A thread of its own: stores that do not answer keep those of the others busy.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")

    def check(self) -> None:
        """Raise LeaseLost unless this replica is the active one."""
        if _clock() >= self._until:
            raise LeaseLost(f"the Lease {self} is not held any more: another replica may be active")

    async def acquire(self) -> None:
        """Wait until it is held."""
        log.info("waiting for the lease", lease=str(self), identity=self.identity)
        while True:
            if await self._attempt():
                log.info("active", lease=str(self), identity=self.identity)
                return
            await asyncio.sleep(self._times.retry)

    async def keep(self) -> NoReturn:
        """Renew it again and again; raises LeaseLost once that has failed for too long, or another has it."""
        while True:
            await asyncio.sleep(self._times.retry)
            self.check()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._attempt(), max(0.0, self._until - _clock()))
            self.check()

    async def release(self) -> None:
        """Give it up, so that another can take it at once; nothing of this replica may write any more."""
        self._until = 0.0
        with suppress(Unavailable):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._give_up)
        self._thread.shutdown(wait=False)

    async def _attempt(self) -> bool:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._try)
        except Conflict:
            self._held = None  # another was faster: look again
        except Unavailable as error:
            log.warning("the lease cannot be renewed or taken", lease=str(self), error=str(error))
        return False

    def _try(self) -> bool:
        """Take or renew it; whether it is held now. Raises Unavailable and Conflict."""
        began = _clock()
        current = self._held or self._read()
        if current is None:
            written = self._create(self._spec({}))
        elif self._is_mine(current) or self._is_free(current):
            written = self._replace(current, self._spec(current["spec"]))
        else:
            self._held, self._until = None, 0.0
            return False
        self._held, self._until = written, began + self._times.renew_deadline
        return True

    def _is_mine(self, current: Document) -> bool:
        return bool(current["spec"].get("holderIdentity") == self.identity)

    def _is_free(self, current: Document) -> bool:
        """Whether nobody has it, or who has it did not renew it for as long as it promised to."""
        version, spec = current["metadata"]["resourceVersion"], current["spec"]
        if version != self._watched[0]:
            self._watched = (version, _clock())
        duration = spec.get("leaseDurationSeconds") or self._times.duration
        return not spec.get("holderIdentity") or _clock() >= self._watched[1] + duration

    def _spec(self, before: Document) -> Document:
        now = micro_time(datetime.now(UTC))
        mine = before.get("holderIdentity") == self.identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.duration)),
            "acquireTime": before["acquireTime"] if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions + (bool(before) and not mine),
        }

    def _give_up(self) -> None:
        self._until = 0.0  # once more: an attempt that was under way may have set it
        for _ in range(2):  # once more where a renewal was written whose answer never came
            current = self._held or self._read()
            if current is None or not self._is_mine(current):
                return
            given_up = {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": micro_time(datetime.now(UTC))}
            with suppress(Conflict):
                self._replace(current, {**current["spec"], **given_up}, seconds=_RELEASE_SECONDS)
                return
            self._held = None

    def _read(self) -> Document | None:
        try:
            return self._call(self._api.read_namespaced_lease, self._name, self._namespace)
        except Refused as error:
            if is_missing(error):
                return None
            raise

    def _create(self, spec: Document) -> Document:
        document = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": spec}
        return self._call(self._api.create_namespaced_lease, self._namespace, document, field_manager=_MANAGER)

    def _replace(self, current: Document, spec: Document, seconds: float | None = None) -> Document:
        """Over the version that is known and no other; raises Conflict."""
        where = self._name, self._namespace
        document = {"metadata": current["metadata"], "spec": spec}
        replace = self._api.replace_namespaced_lease
        return self._call(replace, *where, document, field_manager=_MANAGER, seconds=seconds)

    def _call(self, ask: Any, *arguments: Any, seconds: float | None = None, **options: Any) -> Document:
        seconds = seconds or self._times.renew_deadline / 2  # so that one that hangs does not use up all the time
        with errors():
            answer = ask(*arguments, _preload_content=False, _request_timeout=(seconds, seconds), **options)
        document: Document = json.loads(answer.data)
        return document

    def __str__(self) -> str:
        return f"{self._namespace}/{self._name}"


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
