"""Ticks of a schedule as a CronJob has them: cron expressions in a time zone, daylight saving as Debian's cron."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from levada.errors import Stalled
from levada.resources.base import Schedule
from levada.resources.conditions import Reason

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# What a machine keeps beside IANA's names: its own zone, no zone, and all zones once more by other rules.
_MACHINES_OWN = re.compile("localtime|posixrules|Factory|(posix|right)/.*")


def check(schedule: Schedule) -> None:
    """Raise Stalled where the expression or the time zone cannot be read."""
    _ticks(schedule, datetime(2026, 1, 1, tzinfo=UTC))


def expression(schedule: Schedule) -> str:
    """What decides when the ticks of a schedule are: `0 3 * * * Europe/Berlin`."""
    return f"{schedule.cron} {schedule.time_zone}"


def latest_tick(schedule: Schedule, now: datetime) -> datetime | None:
    """The newest tick that is not after `now`, in UTC; None if there never was one."""
    # The walk back leaves out where it starts, and reads whole seconds.
    start = now.replace(microsecond=0) + timedelta(seconds=1)
    return next((tick for tick in _ticks(schedule, start, reverse=True) if tick <= now), None)


def next_tick(schedule: Schedule, now: datetime) -> datetime | None:
    """The first tick after `now`, in UTC; None if there is none."""
    # Where clocks are set back, the walk may begin with a tick of the hour's first pass.
    return next((tick for tick in _ticks(schedule, now) if tick > now), None)


def _ticks(schedule: Schedule, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    expression = MACROS.get(schedule.cron.strip(), schedule.cron)
    if len(expression.split()) != 5:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.schedule.cron: '{schedule.cron}' is not a cron expression: write five fields (minute hour "
            "day-of-month month day-of-week), or @hourly, @daily, @weekly, @monthly",
        )
    try:
        if _MACHINES_OWN.fullmatch(schedule.time_zone):
            raise ZoneInfoNotFoundError
        zone = ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.schedule.timeZone: there is no time zone '{schedule.time_zone}': write an IANA name such as "
            "Europe/Berlin or Etc/UTC",
        ) from error
    try:
        ticks = CronSim(expression, start.astimezone(zone), reverse=reverse)
    except CronSimError as error:
        raise Stalled(
            Reason.INVALID_SPEC, f"spec.schedule.cron: '{schedule.cron}' is not a cron expression: {error}"
        ) from error
    return (tick.astimezone(UTC) for tick in ticks)
