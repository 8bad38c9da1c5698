"""What a person sees: states, progress, tables."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from levada.engines.local.columns import columns_of, kind_table, value_at
from levada.engines.local.display import PlainDisplay, Row, describe, overview, pipeline_order, summary, table
from levada.engines.local.jobs import Pace
from levada.engines.local.lineage import as_tree, audit_table
from levada.names import Kind
from levada.resources import Dataset, Ref
from levada.resources.conditions import Condition, ConditionType, Reason
from levada.steps.io import ProgressRecord
from levada.stores.ports import LineageNode
from tests.unit.planners.worlds import dataset

REF = Ref(Kind.DATASET, "default", "flights")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def with_conditions(*true: ConditionType, ready: str = "") -> Dataset:
    conditions = [
        Condition(type=type, status="True", reason=Reason.SUCCEEDED, message=f"it is {type}", last_transition_time=NOW)
        for type in true
    ]
    if ready:
        conditions.append(
            Condition(
                type=ConditionType.READY,
                status="False",
                reason=Reason.WAITING_FOR_INPUT,
                message=ready,
                last_transition_time=NOW,
            )
        )
    found = dataset()
    return found.model_copy(update={"status": found.status.model_copy(update={"conditions": conditions})})


def printed(thing: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("record", "rate", "text"),
    [
        (ProgressRecord(phase="read", done=7), 0.0, "read 7 rows"),
        (
            ProgressRecord(phase="prepare", done=120_000, total=336_776),
            60_000.0,
            "prepare 120,000 of 336,776 rows, 60,000/s, 4 s left",
        ),
        (ProgressRecord(phase="fit", done=1, total=3, unit="steps"), 0.01, "fit 1 of 3 steps, 4 min left"),
        (ProgressRecord(phase="fit", done=0, total=3, unit="steps"), 0.0, "fit 0 of 3 steps"),
        (ProgressRecord(phase="read", done=10, total=7210), 1.0, "read 10 of 7,210 rows, 1/s, 2 h 00 min left"),
        (ProgressRecord(phase="read", done=9, total=9), 3.0, "read 9 of 9 rows, 3/s"),
    ],
)
def test_x8_progress_says_phase_rows_rate_and_time_left(record: ProgressRecord, rate: float, text: str) -> None:
    assert describe(Pace(record, rate)) == text


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([ConditionType.STALLED, ConditionType.FAILED], "Failed"),
        ([ConditionType.STALLED], "Stalled"),
        ([ConditionType.READY, ConditionType.COMPLETE], "Complete"),
        ([ConditionType.READY], "Ready"),
        ([ConditionType.READY, ConditionType.RECONCILING], "Ready"),
        ([ConditionType.RECONCILING], "Running"),
        ([], "Pending"),
    ],
)
def test_x8_a_state_in_one_word_with_its_message(conditions: list[ConditionType], state: str) -> None:
    found, message = summary(with_conditions(*conditions))

    assert found == state
    assert message == ("" if state in ("Running", "Pending") else f"it is {state}")


def test_x8_what_waits_says_for_what() -> None:
    assert summary(with_conditions(ready="waits for rain")) == ("Pending", "waits for rain")


def test_x8_brackets_in_messages_are_no_markup() -> None:
    message = "spec.quality[0]: one of [red] and [/blue]"
    node = LineageNode("batch-[/b]", "batch", "[bold]name", None, details={"columns": "[/x]"})

    assert message in printed(table([Row(REF, "Stalled", "", message)]))
    assert "[bold]name batch-[/b] columns [/x]" in printed(as_tree([node]))
    decision = dict.fromkeys(("actor", "kind", "namespace", "name", "action", "reason"), "-")
    assert message in printed(audit_table([{**decision, "time": datetime(2026, 1, 1, tzinfo=UTC), "message": message}]))


def test_x8_progress_has_a_column_only_while_there_is_some() -> None:
    assert "PROGRESS" not in printed(table([Row(REF, "Ready", "", "")]))
    assert "read 7 rows" in printed(table([Row(REF, "Running", "read 7 rows", "")]))


def test_x8_resources_are_sorted_as_the_pipeline_passes_through_them() -> None:
    refs = [Ref(Kind.SCORING_RUN, "a", "a"), Ref(Kind.FEATURE_SET, "a", "a"), Ref(Kind.DATASET, "b", "b")]

    assert sorted(refs, key=pipeline_order) == refs[::-1]


def test_x8_plain_lines_tell_each_change_once() -> None:
    file = io.StringIO()
    display = PlainDisplay(Console(file=file, width=200))
    for row in [
        Row(REF, "Pending", "", "waits"),
        Row(REF, "Running", "", "ingest is running"),
        Row(REF, "Running", "", "ingest is running"),
        Row(REF, "Ready", "", "5 rows [/x]"),
    ]:
        display.show([row])

    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].split()[:3] == ["Dataset", "flights", "Running"]
    assert lines[1].endswith("Ready     5 rows [/x]")


def test_x8_what_resources_warn_of_stands_below_the_table() -> None:
    rows = [Row(REF, "Ready", "", "5 rows", ("the label is [uneven]", "few rows")), Row(REF, "Ready", "", "6 rows")]

    lines = printed(overview(rows)).splitlines()

    assert lines[3:] == ["", "Warnings:", f"{REF}: the label is [uneven]", f"{REF}: few rows"]
    assert "Warnings" not in printed(overview(rows[1:]))


def test_x8_plain_lines_tell_each_warning_once() -> None:
    file = io.StringIO()
    display = PlainDisplay(Console(file=file, width=200))
    for warnings in ((), ("uneven",), ("uneven", "few rows"), ("few rows",)):
        display.show([Row(REF, "Ready", "", "5 rows", warnings)])

    said = [line.split(maxsplit=2)[2] for line in file.getvalue().splitlines()]
    assert said == ["Ready     5 rows", "Warning   uneven", "Warning   few rows"]


def test_k8s1_get_has_the_columns_of_kubectl() -> None:
    assert list(columns_of(Kind.DATASET)) == ["Ready", "Reason", "Batch", "Rows", "Message"]
    assert list(columns_of(Kind.DEPLOYMENT)) == ["Ready", "Reason", "Version", "URL", "Message"]

    text = printed(kind_table(Kind.DATASET, [with_conditions(ready="waits for rain")], namespaces=True))

    assert text.splitlines()[0].split() == ["NAMESPACE", "NAME", "READY", "REASON", "BATCH", "ROWS", "MESSAGE"]
    assert text.splitlines()[1].split() == ["default", "flights", "False", "WaitingForInput", "waits", "for", "rain"]


def test_k8s1_a_path_leads_to_its_value_or_to_nothing() -> None:
    document = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "best": {"value": 0.5}}}

    assert value_at(document, ".status.best.value") == 0.5
    assert value_at(document, '.status.conditions[?(@.type=="Ready")].status') == "True"
    assert value_at(document, '.status.conditions[?(@.type=="Stalled")].status') is None
    assert value_at(document, ".status.latestBatch.id") is None
    assert value_at({}, '.status.conditions[?(@.type=="Ready")].status') is None
