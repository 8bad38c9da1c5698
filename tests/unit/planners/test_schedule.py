"""Ticks, over time zones and the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.errors import Stalled
from levada.planners.schedule import check, latest_tick, next_tick
from levada.resources.base import Schedule
from tests.unit.planners.worlds import FIXED

EXPRESSIONS = [
    "* * * * *",
    "*/7 * * * *",
    "30 2 * * *",
    "0 0 29 2 *",
    "15 3 * * MON-FRI",
    "0 12 L * *",
    "@hourly",
    "@weekly",
]
ZONES = ["Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
times = st.integers(1577836800_000000, 1893456000_000000).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
schedules = st.builds(
    lambda cron, zone: Schedule(cron=cron, time_zone=zone), st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES)
)


@FIXED
@given(schedules, times)
def test_x6_the_latest_tick_is_past_and_the_next_one_to_come(schedule: Schedule, now: datetime) -> None:
    latest, following = latest_tick(schedule, now), next_tick(schedule, now)
    assert latest is not None
    assert following is not None
    assert latest <= now < following


@FIXED
@given(schedules, times)
def test_x6_each_tick_is_the_latest_from_its_own_moment_on(schedule: Schedule, now: datetime) -> None:
    following = next_tick(schedule, now)
    assert following is not None
    assert latest_tick(schedule, following) == following
    assert latest_tick(schedule, following + timedelta(microseconds=1)) == following


@pytest.mark.parametrize(
    ("day", "ticks"),
    [
        # In Berlin 2:30 does not exist on the last Sunday of March, and exists twice on the last of October.
        (datetime(2026, 3, 29, tzinfo=UTC), [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]),
        (datetime(2026, 10, 25, tzinfo=UTC), [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]),
        (datetime(2026, 7, 1, tzinfo=UTC), [datetime(2026, 7, 1, 0, 30, tzinfo=UTC)]),
    ],
)
def test_x6_a_daily_tick_comes_once_a_day_when_clocks_change(day: datetime, ticks: list[datetime]) -> None:
    schedule = Schedule(cron="30 2 * * *", time_zone="Europe/Berlin")
    found, now = [], day - timedelta(microseconds=1)
    while (tick := next_tick(schedule, now)) is not None and tick < day + timedelta(days=1):
        found.append(tick)
        now = tick
    assert found == ticks


def test_x6_a_date_that_never_comes_has_no_tick() -> None:
    assert latest_tick(Schedule(cron="0 0 29 2 *"), datetime(2023, 1, 1, tzinfo=UTC)) == datetime(
        2020, 2, 29, tzinfo=UTC
    )


def test_x6_in_the_hour_that_clocks_repeat_the_next_tick_is_still_to_come() -> None:
    schedule = Schedule(cron="30 2 * * *", time_zone="Europe/Berlin")
    now = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 2:15 for the second time
    assert next_tick(schedule, now) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    latest = latest_tick(schedule, now)
    assert latest is not None
    assert latest <= now


@pytest.mark.parametrize("zone", ["localtime", "Factory", "posixrules", "posix/Europe/Berlin", "right/Etc/UTC"])
def test_x6_a_zone_that_is_the_machines_own_is_no_iana_name(zone: str) -> None:
    with pytest.raises(Stalled, match=f"^spec.schedule.timeZone: there is no time zone '{zone}'"):
        check(Schedule(cron="@daily", time_zone=zone))
