"""FeatureSet: inputs, look-ups, versions, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from levada.artifacts import LookupSpec
from levada.names import Kind
from levada.planners import references_of
from levada.resources import FeatureSet
from levada.resources.conditions import Reason
from levada.steps.io import InputBatch, PrepareWork
from tests.unit.planners.worlds import World, dataset, feature_set, kstatus, ref, says

FLIGHTS, PLANES = ref(Kind.FEATURE_SET, "flights"), ref(Kind.FEATURE_SET, "planes")
RAW, WEATHER = ref(Kind.DATASET, "flights"), ref(Kind.DATASET, "weather-hourly")


def world(**spec: Any) -> World:
    made = World()
    made.add(dataset("flights"), dataset("planes"), dataset("weather-hourly"))
    made.add(feature_set("planes", inputs=[{"dataset": "planes"}], entity={"keys": ["id"]}, online={"enabled": True}))
    made.add(feature_set("flights", **spec))
    return made


def version(made: World) -> str:
    found = made.resources[FLIGHTS]
    assert isinstance(found, FeatureSet)
    assert found.status.latest_version is not None
    return found.status.latest_version.id


def work(made: World) -> PrepareWork:
    """The work of the newest preparation."""
    (job,) = [made.wanted[name] for name in made.wanted if name.startswith("flights-prepare")][-1:]
    assert isinstance(job.input.work, PrepareWork)
    return job.input.work


BOTH: dict[str, Any] = {
    "inputs": [{"dataset": "flights"}, {"dataset": "weather-hourly", "alias": "w"}],
    "query": "select * from flights join w using (id)",
}


def test_prep1_a_preparation_gets_the_newest_batch_of_every_input() -> None:
    made = world(**BOTH)
    made.settle()
    batches = [made.resources[r].status.latest_batch.id for r in (RAW, WEATHER)]  # type: ignore[union-attr]
    assert work(made).inputs == [
        InputBatch(
            dataset="flights",
            alias="flights",
            batches=[batches[0]],
            prefixes=[f"raw/default/flights/{batches[0]}/"],
        ),
        InputBatch(
            dataset="weather-hourly",
            alias="w",
            batches=[batches[1]],
            prefixes=[f"raw/default/weather-hourly/{batches[1]}/"],
        ),
    ]
    assert work(made).version == version(made)


def test_prep1_a_table_is_called_as_its_dataset_with_underscores() -> None:
    made = world(inputs=[{"dataset": "weather-hourly"}], query="select * from weather_hourly")
    made.settle()
    assert work(made).inputs[0].alias == "weather_hourly"
    assert kstatus(made.resources[FLIGHTS]) == "Current"


def test_prep1_all_batches_are_read_oldest_first() -> None:
    made = world(inputs=[{"dataset": "flights", "batches": "all"}])
    made.sources[RAW] = "a"
    made.settle()
    made.sources[RAW] = "b"
    made.settle()
    assert work(made).inputs[0].batches == list(reversed(made.resources[RAW].status.batches))  # type: ignore[union-attr]
    assert len(work(made).inputs[0].batches) == 2


@pytest.mark.parametrize(("when", "first", "second"), [("any", True, True), ("all", False, True)])
def test_prep1_new_batches_of_any_or_of_all_inputs_start_a_preparation(when: str, first: bool, second: bool) -> None:
    made = world(**BOTH, trigger={"when": when})
    made.settle()
    before = version(made)
    made.sources[RAW] = "new"
    made.settle()
    assert (version(made) != before) == first
    before = version(made)
    made.sources[WEATHER] = "new"
    made.settle()
    assert (version(made) != before) == second


def test_prep4_the_id_of_a_version_comes_from_definition_batches_and_looked_up_versions() -> None:
    lookups = [{"featureSet": "planes", "keys": ["id"]}]
    made, same, other = world(lookups=lookups), world(lookups=lookups), world(lookups=lookups, label="id")
    for each in (made, same, other):
        each.settle()
    assert version(made) == version(same)
    assert version(made) != version(other)
    made.sources[ref(Kind.DATASET, "planes")] = "new planes"
    made.settle()
    assert version(made) != version(same)


def test_prep4_what_training_fits_does_not_make_a_new_version() -> None:
    made = world()
    made.settle()
    before = version(made)
    made.edit(
        FLIGHTS, transform=[{"columns": ["id"], "steps": [{"scale": "standard"}]}], select={"method": "chi2", "k": 2}
    )
    made.settle()
    assert version(made) == before


def test_prep5_a_preparation_waits_for_an_input_whose_changed_spec_is_being_carried_out() -> None:
    made = world()
    made.settle()
    made.edit(RAW, format={"type": "jsonl"})
    made.edit(FLIGHTS, label="id")
    planned = made.reconcile(FLIGHTS)
    assert planned.jobs == ()
    assert says(made.resources[FLIGHTS]) == (
        "False",
        Reason.WAITING_FOR_INPUT,
        "waits for Dataset default/flights, which is being brought up to date",
    )
    made.settle()
    assert kstatus(made.resources[FLIGHTS]) == "Current"


def test_x8_a_failed_input_is_named_with_its_reason() -> None:
    made = world()
    made.reconcile(RAW)
    made.fail(RAW, message="there is no bucket 'landing'")
    made.reconcile(RAW)
    made.reconcile(FLIGHTS)
    assert says(made.resources[FLIGHTS]) == (
        "False",
        Reason.WAITING_FOR_INPUT,
        "waits for Dataset default/flights, which has no batch yet: there is no bucket 'landing'",
    )


def test_x5_an_input_that_is_deleted_leaves_the_version_ready() -> None:
    made = world()
    made.settle()
    del made.resources[RAW]
    made.reconcile(FLIGHTS)
    said = says(made.resources[FLIGHTS])
    assert said is not None
    assert said[0] == "True"
    assert said[2].endswith("; waits for Dataset default/flights, which does not exist")


def test_x5_a_running_preparation_goes_on_when_a_lookup_is_deleted() -> None:
    made = world(lookups=[{"featureSet": "planes", "keys": ["id"]}])
    for each in (RAW, ref(Kind.DATASET, "planes"), PLANES):
        made.reconcile(each)
        made.succeed(each)
        made.reconcile(each)
    (job,) = made.reconcile(FLIGHTS).jobs
    del made.resources[PLANES]
    planned = made.reconcile(FLIGHTS)
    assert (planned.jobs, planned.keep) == ((), (job.name,))
    assert kstatus(made.resources[FLIGHTS]) == "InProgress"
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert version(made) == job.input.execution


# --- look-ups -------------------------------------------------------------------------------------------------------


def test_prep1_a_lookup_is_handed_on_with_the_version_that_it_reads() -> None:
    lookup = {"featureSet": "planes", "keys": ["tailnum"], "columns": ["id"], "prefix": "p_"}
    made = world(lookups=[lookup])
    made.settle()
    planes = made.resources[PLANES]
    assert isinstance(planes, FeatureSet)
    assert planes.status.latest_version is not None
    (given,) = work(made).lookups
    assert isinstance(given, LookupSpec)
    assert given.model_dump(exclude={"columns"}) == {
        "feature_set": "planes",
        "namespace": "default",
        "version": planes.status.latest_version.id,
        "prefix": f"features/default/planes/{planes.status.latest_version.id}/",
        "on": ["tailnum"],
        "keys": ["id"],
        "key_types": [],
        "as_of": None,
        "timestamp": None,
        "tolerance_seconds": None,
        "online": True,
    }
    assert [(c.source, c.name, c.type) for c in given.columns] == [("id", "p_id", "int64")]


@pytest.mark.parametrize(
    ("lookup", "message"),
    [
        (
            {"keys": ["a", "b"]},
            "spec.lookups[0].keys: FeatureSet planes has the keys id; name as many columns, in the same order",
        ),
        (
            {"keys": ["a"], "asOf": "at"},
            "spec.lookups[0].asOf: FeatureSet planes has no entity.timestamp, so it has no row as of a time; give it "
            "one, or leave asOf out",
        ),
        (
            {"keys": ["a"], "columns": ["seats"]},
            "spec.lookups[0].columns: FeatureSet planes has no column 'seats' (it has id)",
        ),
    ],
)
def test_prep1_a_lookup_that_does_not_fit_is_refused(lookup: dict[str, Any], message: str) -> None:
    made = world(lookups=[{"featureSet": "planes", **lookup}])
    made.settle()
    assert says(made.resources[FLIGHTS]) == ("False", Reason.INVALID_SPEC, message)


def test_x8_a_cycle_of_lookups_is_named() -> None:
    made = world(lookups=[{"featureSet": "planes", "keys": ["id"]}])
    made.edit(PLANES, lookups=[{"featureSet": "flights", "keys": ["id"]}])
    made.settle()
    assert says(made.resources[FLIGHTS]) == (
        "False",
        Reason.CYCLE,
        "spec.lookups: the look-ups of FeatureSets form a cycle: flights → planes → flights; remove one of them",
    )
    made.edit(PLANES, lookups=[])
    made.settle()
    assert kstatus(made.resources[FLIGHTS]) == "Current"


def test_x8_a_feature_set_that_looks_itself_up_is_a_cycle() -> None:
    made = world(lookups=[{"featureSet": "flights", "keys": ["id"]}])
    made.reconcile(FLIGHTS)
    said = says(made.resources[FLIGHTS])
    assert said is not None
    assert said[1] == Reason.CYCLE


def test_x8_a_feature_set_that_leads_to_a_cycle_is_not_of_it() -> None:
    made = world(lookups=[{"featureSet": "planes", "keys": ["id"]}])
    made.add(feature_set("seats", inputs=[{"dataset": "planes"}], lookups=[{"featureSet": "planes", "keys": ["id"]}]))
    made.edit(PLANES, lookups=[{"featureSet": "seats", "keys": ["id"]}])
    made.reconcile(FLIGHTS)
    said = says(made.resources[FLIGHTS])
    assert said is not None
    assert said[1] == Reason.WAITING_FOR_INPUT


def test_x8_references_are_inputs_and_lookups() -> None:
    made = world(**BOTH, lookups=[{"featureSet": "planes", "keys": ["id"]}])
    assert references_of(made.resources[FLIGHTS]) == {RAW, WEATHER, PLANES}


# --- what is refused before anything runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reason", "beginning"),
    [
        ({"query": "select * from nothing"}, Reason.INVALID_QUERY, "spec.query, line 1, column 15: it reads 'nothing'"),
        ({"query": "select * from read_csv('x')"}, Reason.INVALID_QUERY, "spec.query, line 1, column 15: read_csv"),
        ({"query": "drop table flights"}, Reason.INVALID_QUERY, "spec.query, line 1, column 1: it begins with 'drop'"),
        (
            {"derive": [{"name": "a", "expression": "sum(id)"}]},
            Reason.INVALID_EXPRESSION,
            "spec.derive[0].expression: derived feature 'a':",
        ),
        (
            {"derive": [{"name": "a", "expression": "ix + 1"}]},
            Reason.INVALID_EXPRESSION,
            "spec.derive: derived feature 'a': there is no column 'ix'",
        ),
        ({"engine": {"type": "spark", "endpoint": "sc://x"}}, Reason.NOT_SUPPORTED, "spec.engine.type: spark"),
        ({"lookback": "24h"}, Reason.NOT_SUPPORTED, "spec.lookback"),
    ],
)
def test_prep2_what_cannot_be_is_refused_before_anything_runs(
    spec: dict[str, Any], reason: Reason, beginning: str
) -> None:
    made = world(**spec)
    made.settle()
    said = says(made.resources[FLIGHTS])
    assert said is not None
    assert said[1] == reason
    assert said[2].startswith(beginning)
    assert not any(name.startswith("flights-prepare") for name in made.wanted)
