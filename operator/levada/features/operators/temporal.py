"""Parts, truncation and differences of dates and times, in integer arithmetic and two small tables.

The calendar is reckoned from 1 March, as usual: then the leap day ends a year. Days are counted from so far back that
no count is negative, because ONNX's integer division truncates. A century's missing leap days are put back first
(Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms", 2022), after which every
four years are the same 1461 days, and month, day and quarter are one look-up each.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cached_property

from levada.features.operators.arithmetic import numbers
from levada.features.tape import Dtype, Node, Tape
from levada.features.types import DAY, ExpressionError
from levada.features.values import TEMPORAL, Kind, Value, as_int64, counted, temporal

SECOND = 1_000_000
UNITS = {
    "microsecond": 1,
    "millisecond": 1000,
    "second": SECOND,
    "minute": 60 * SECOND,
    "hour": 3600 * SECOND,
    "day": DAY,
    "week": 7 * DAY,
}
CALENDAR_UNITS = ("month", "quarter", "year")
# Other spellings than the name itself and its plural.
ALIASES = {
    "us": "microsecond",
    "usec": "microsecond",
    "ms": "millisecond",
    "msec": "millisecond",
    "s": "second",
    "sec": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "dayofmonth": "day",
    "w": "week",
    "weekofyear": "week",
    "mon": "month",
    "y": "year",
    "yr": "year",
    "dayofweek": "dow",
    "weekday": "dow",
    "dayofyear": "doy",
}

CYCLES = 190  # of 400 years, by which days are counted from further back: 76,000 years
CYCLE_DAYS = 146_097
EPOCH_DAY = 719_468 + CYCLES * CYCLE_DAYS  # 1 January 1970, counted from 1 March of the year 0 - 76,000
OFFSET = EPOCH_DAY * DAY
MONDAY = (3 - EPOCH_DAY) % 7  # 1 January 1970 was a Thursday: adding this to a day count makes Mondays multiples of 7

# The days of four years from 1 March on; 2000 stands for any that begin with a leap year.
_FOUR_YEARS = [date(2000, 3, 1) + timedelta(days=n) for n in range(1461)]
_MONTHS = tuple(day.month for day in _FOUR_YEARS)
_DAYS = tuple(day.day for day in _FOUR_YEARS)
_YEARS = tuple(day.year - 2000 - 400 * CYCLES for day in _FOUR_YEARS)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Calendar:
    """The calendar's view of a day count (INT64 nodes, all of them)."""

    def __init__(self, t: Tape, day: Node) -> None:
        self.t = t
        self.day = day

    @classmethod
    def of(cls, t: Tape, time: Node) -> Calendar:
        return cls(t, _quotient(t, t.op("Add", time, t.integer(OFFSET)), DAY))

    @cached_property
    def _julian(self) -> Node:
        """The day count as if every fourth year were a leap year."""
        t = self.t
        century = _quotient(t, _linear(t, self.day, 4, 3), CYCLE_DAYS)
        return t.op("Sub", t.op("Add", self.day, century), _quotient(t, century, 4))

    def _look_up(self, values: tuple[int, ...]) -> Node:
        return self.t.choose(_remainder(self.t, self._julian, 1461), Dtype.INT64, values)

    @property
    def month(self) -> Node:
        return self._look_up(_MONTHS)

    @property
    def day_of_month(self) -> Node:
        return self._look_up(_DAYS)

    @property
    def quarter(self) -> Node:
        return self._look_up(tuple((month + 2) // 3 for month in _MONTHS))

    @property
    def year(self) -> Node:
        t = self.t
        return t.op("Add", _linear(t, _quotient(t, self._julian, 1461), 4, 0), self._look_up(_YEARS))

    @property
    def day_of_year(self) -> Node:
        first = first_of_month(self.t, self.year, self.t.integer(1))
        return _linear(self.t, self.t.op("Sub", self.day, first), 1, 1)

    @property
    def weekday(self) -> Node:
        """0 for Monday."""
        return _remainder(self.t, _linear(self.t, self.day, 1, MONDAY), 7)

    @cached_property
    def thursday(self) -> Calendar:
        """The Thursday of the week, whose year is the ISO week's."""
        return Calendar(self.t, _linear(self.t, self.t.op("Sub", self.day, self.weekday), 1, 3))

    @property
    def iso_week(self) -> Node:
        return _linear(self.t, _quotient(self.t, _linear(self.t, self.thursday.day_of_year, 1, -1), 7), 1, 1)


def _quotient(t: Tape, node: Node, by: int) -> Node:
    return node if by == 1 else t.op("Div", node, t.integer(by))


def _remainder(t: Tape, node: Node, by: int) -> Node:
    return t.op("Mod", node, t.integer(by))


def _linear(t: Tape, node: Node, factor: int, summand: int) -> Node:
    if factor != 1:
        node = t.op("Mul", node, t.integer(factor))
    return node if summand == 0 else t.op("Add", node, t.integer(summand))


def first_of_month(t: Tape, year: Node, month: Node) -> Node:
    """The day count of the first day of a month."""
    shifted = _remainder(t, _linear(t, month, 1, 9), 12)  # months since March
    spring = t.op("Sub", _linear(t, year, 1, 400 * CYCLES), _quotient(t, shifted, 10))  # the year that began in March
    century = _quotient(t, spring, 100)
    leaps = t.op("Sub", _quotient(t, century, 4), century)
    days = t.op("Add", _quotient(t, _linear(t, spring, 1461, 0), 4), leaps)
    return t.op("Add", days, _quotient(t, _linear(t, shifted, 153, 2), 5))


def _to_time(t: Tape, day: Node) -> Node:
    """Midnight of a day, in microseconds since 1970."""
    return _linear(t, _linear(t, day, 1, -EPOCH_DAY), DAY, 0)


def unit_named(name: str) -> str:
    """The full name of a date part, from any of DuckDB's spellings."""
    lower = name.lower()
    for candidate in (lower, lower.removesuffix("s")):
        known = ALIASES.get(candidate, candidate)
        if known in UNITS or known in CALENDAR_UNITS or known in _PARTS:
            return known
    raise ExpressionError(f"the date part '{name}' is not supported")


def a_time(value: Value, what: str) -> Value:
    if value.kind not in TEMPORAL:
        raise ExpressionError(f"{what} needs a timestamp or a date, not a {value.kind}")
    return value


def _within(t: Tape, time: Node, larger: str, unit: str) -> Node:
    """How many units have passed since the larger one began."""
    return _quotient(t, _remainder(t, time, UNITS[larger]), UNITS[unit])


_PARTS = {
    "year": lambda t, x: Calendar.of(t, x).year,
    "quarter": lambda t, x: Calendar.of(t, x).quarter,
    "month": lambda t, x: Calendar.of(t, x).month,
    "week": lambda t, x: Calendar.of(t, x).iso_week,
    "isoyear": lambda t, x: Calendar.of(t, x).thursday.year,
    "day": lambda t, x: Calendar.of(t, x).day_of_month,
    "doy": lambda t, x: Calendar.of(t, x).day_of_year,
    "isodow": lambda t, x: _linear(t, Calendar.of(t, x).weekday, 1, 1),
    "dow": lambda t, x: _remainder(t, _linear(t, Calendar.of(t, x).day, 1, MONDAY + 1), 7),
    "hour": lambda t, x: _within(t, x, "day", "hour"),
    "minute": lambda t, x: _within(t, x, "hour", "minute"),
    "second": lambda t, x: _within(t, x, "minute", "second"),
    "millisecond": lambda t, x: _within(t, x, "minute", "millisecond"),
    "microsecond": lambda t, x: _within(t, x, "minute", "microsecond"),
}


def part(t: Tape, name: str, value: Value) -> Value:
    """date_part(), EXTRACT, and the functions named after a part."""
    if name.lower() == "epoch":
        return epoch(t, value)
    name = unit_named(name)
    node = a_time(value, f"{name}()").node
    return counted(t, _PARTS[name](t, node), node)


def epoch(t: Tape, value: Value) -> Value:
    """Seconds since 1970, or of an interval, as DOUBLE."""
    if value.kind is Kind.INTERVAL:
        # Whole seconds apart from the rest, because microseconds of more than 285 years are no exact double.
        whole = t.cast(_quotient(t, value.node, SECOND), Dtype.DOUBLE)
        rest = t.cast(t.op("Mod", value.node, t.integer(SECOND), fmod=1), Dtype.DOUBLE)
        seconds = t.op("Add", whole, t.op("Div", rest, t.number(SECOND)))
    else:
        node = a_time(value, "epoch()").node
        seconds = t.op("Div", t.cast(node, Dtype.DOUBLE), t.number(SECOND))
    return counted(t, seconds, value.node, kind=Kind.DOUBLE)


def epoch_in(t: Tape, unit: str, value: Value) -> Value:
    """epoch_ms(), epoch_us(): of a time the count since 1970; epoch_ms() of a number the time."""
    if value.kind in TEMPORAL:
        node = value.node
        if unit == "millisecond":  # rounded, half away from zero
            past = t.compare("Less", node, t.integer(0))
            node = _quotient(t, t.op("Add", node, t.where(past, t.integer(-500), t.integer(500))), 1000)
        return counted(t, node, value.node)
    if value.kind is Kind.INTEGER and unit == "millisecond":
        count = as_int64(t, value, 2**61 // 1000)
        return temporal(t, Kind.TIMESTAMP, _linear(t, count, 1000, 0), count)
    raise ExpressionError(f"epoch in {unit}s needs a timestamp or a date, not a {value.kind}")


def named(t: Tape, names: str, value: Value) -> Value:
    """dayname(), monthname()."""
    node = a_time(value, f"{names}()").node
    calendar = Calendar.of(t, node)
    if names == "dayname":
        name = t.choose(calendar.weekday, Dtype.STRING, _WEEKDAYS)
    else:
        name = t.choose(_linear(t, calendar.month, 1, -1), Dtype.STRING, _MONTH_NAMES)
    return Value(Kind.STRING, t.where(t.is_null(node), t.null(Dtype.STRING), name))


def truncate(t: Tape, unit: str, value: Value) -> Value:
    """date_trunc(): a TIMESTAMP, of a date as well."""
    unit = unit_named(unit)
    node = a_time(value, "date_trunc()").node
    if unit == "week":
        start = t.op("Sub", node, _remainder(t, _linear(t, node, 1, 3 * DAY), 7 * DAY))
    elif unit in UNITS:
        start = node if unit == "microsecond" else t.op("Sub", node, _remainder(t, node, UNITS[unit]))
    elif unit in CALENDAR_UNITS:
        start = _to_time(t, _first_day(t, unit, Calendar.of(t, node)))
    else:
        raise ExpressionError(f"date_trunc() to '{unit}' is not supported")
    return temporal(t, Kind.TIMESTAMP, start, node)


def _first_day(t: Tape, unit: str, calendar: Calendar) -> Node:
    if unit == "month":
        return _linear(t, t.op("Sub", calendar.day, calendar.day_of_month), 1, 1)
    month = _linear(t, calendar.quarter, 3, -2) if unit == "quarter" else t.integer(1)
    return first_of_month(t, calendar.year, month)


def difference(t: Tape, unit: str, start: Value, end: Value) -> Value:
    """date_diff(): how many beginnings of a unit lie between two times; of weeks, as in DuckDB, whole ones."""
    unit = unit_named(unit)
    a, b = a_time(start, "date_diff()").node, a_time(end, "date_diff()").node
    if unit == "week":
        days = t.op("Sub", Calendar.of(t, b).day, Calendar.of(t, a).day)
        return counted(t, _quotient(t, days, 7), a, b)
    return counted(t, t.op("Sub", _index(t, unit, b), _index(t, unit, a)), a, b)


def _index(t: Tape, unit: str, time: Node) -> Node:
    """The number of the unit in which a time lies."""
    calendar = Calendar.of(t, time)
    if unit == "year":
        return calendar.year
    if unit in CALENDAR_UNITS:
        count, node = (12, calendar.month) if unit == "month" else (4, calendar.quarter)
        return t.op("Add", _linear(t, calendar.year, count, 0), node)
    if unit in UNITS:
        return time if unit == "microsecond" else _quotient(t, _linear(t, time, 1, OFFSET), UNITS[unit])
    raise ExpressionError(f"date_diff() in '{unit}' is not supported")


def whole_units(t: Tape, unit: str, start: Value, end: Value) -> Value:
    """date_sub(): how many whole units lie between two times."""
    unit = unit_named(unit)
    if unit not in UNITS:
        raise ExpressionError(f"date_sub() in '{unit}' is not supported: its length varies")
    a, b = a_time(start, "date_sub()").node, a_time(end, "date_sub()").node
    return counted(t, _quotient(t, t.op("Sub", b, a), UNITS[unit]), a, b)


def last_day(t: Tape, value: Value) -> Value:
    """The last day of a month."""
    node = a_time(value, "last_day()").node
    calendar = Calendar.of(t, node)
    following = first_of_month(
        t,
        t.op("Add", calendar.year, _quotient(t, calendar.month, 12)),
        _linear(t, _remainder(t, calendar.month, 12), 1, 1),
    )
    return temporal(t, Kind.DATE, _to_time(t, _linear(t, following, 1, -1)), node)


def make_date(t: Tape, *parts: Value) -> Value:
    """make_date(year, month, day); null for a day that does not exist."""
    if any(v.kind not in (Kind.INTEGER, Kind.NULL) for v in parts):
        raise ExpressionError("make_date() needs three integers")
    year, month, day = (as_int64(t, v, 9999) for v in numbers(t, "make_date()", *parts))
    first = first_of_month(t, year, month)
    made = _linear(t, t.op("Add", first, day), 1, -1)
    calendar = Calendar(t, made)
    exists = t.both(t.compare("Equal", calendar.day_of_month, day), t.compare("Equal", calendar.month, month))
    node = t.where(exists, _to_time(t, made), t.null(Dtype.INT64))
    return temporal(t, Kind.DATE, node, year, month, day)
