"""ScoringRun: which model, which input, and when it scores again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from levada.names import Kind
from levada.planners import references_of
from levada.resources import ModelCandidate, ScoringRun
from levada.resources.conditions import Reason
from levada.steps.io import ScoreWork
from tests.unit.planners.worlds import (
    World,
    candidate,
    dataset,
    deployment,
    feature_set,
    kstatus,
    ref,
    says,
    scoring_run,
    training_run,
)

SCORING, RAW, SERVED = ref(Kind.SCORING_RUN, "late"), ref(Kind.DATASET, "flights"), ref(Kind.DEPLOYMENT, "late")
OBJECT = {"type": "object", "object": {"uri": "s3://requests/", "format": {"type": "jsonl"}}}


def world(**spec: Any) -> World:
    """A pipeline that serves, and a ScoringRun that has not begun."""
    made = World(metrics={"linear": {"rocAuc": 0.66}, "trees": {"rocAuc": 0.69}})
    made.add(dataset(), feature_set(), training_run(), deployment())
    made.settle()
    made.add(scoring_run(**spec))
    return made


def work(made: World) -> ScoreWork:
    (job,) = made.reconcile(SCORING).jobs
    assert isinstance(job.input.work, ScoreWork)
    return job.input.work


def executions(made: World) -> set[str]:
    return {job.input.execution for job in made.wanted.values() if isinstance(job.input.work, ScoreWork)}


def best(made: World) -> str:
    return made.resources[ref(Kind.TRAINING_RUN, "late")].status.best.name  # type: ignore[union-attr]


def version(made: World) -> str:
    return made.resources[ref(Kind.FEATURE_SET, "flights")].status.latest_version.id  # type: ignore[union-attr]


def test_score4_the_serving_version_scores_the_newest_version_in_parts() -> None:
    made = world(partitions=8, output={"columns": ["id"], "catalogue": False})
    (job,) = made.reconcile(SCORING).jobs
    given = job.input.work
    assert isinstance(given, ScoreWork)
    assert (job.completions, job.parallelism) == (8, 8)
    assert given.document() == {
        "step": "score",
        "execution": job.input.execution,
        "candidate": best(made),
        "modelPrefix": f"models/default/{best(made)}/",
        "source": "featureSet",
        "prefixes": [f"features/default/flights/{version(made)}/"],
        "input": {"kind": "FeatureSet", "name": "flights", "ids": [version(made)]},
        "part": "all",
        "catalogue": False,
        "columns": ["id"],
        "deployment": "late",
        "version": 1,
    }


def test_score4_scores_are_shown_with_the_model_that_made_them() -> None:
    made = world()
    made.settle()
    found = made.resources[SCORING]
    assert isinstance(found, ScoringRun)
    assert found.status.scores is not None
    assert found.status.scores.uri == f"s3://levada/scores/default/late/{found.status.scores.id}/"
    assert found.status.candidate == best(made)
    assert kstatus(found) == "Current"


@pytest.mark.parametrize("model", [{"trainingRun": "late"}, {"candidate": "fixed"}])
def test_score4_a_training_runs_best_or_a_candidate_can_score(model: dict[str, str]) -> None:
    made = world(model=model)
    made.add(candidate("fixed"))
    made.settle()
    found = made.resources[SCORING]
    assert isinstance(found, ScoringRun)
    assert found.status.candidate == (best(made) if "trainingRun" in model else "fixed")
    assert next(iter(references_of(found) & set(made.resources))) is not None


def test_score4_a_batch_of_a_dataset_can_be_scored() -> None:
    made = world(input={"type": "dataset", "dataset": "flights"})
    batch = made.resources[RAW].status.latest_batch.id  # type: ignore[union-attr]
    given = work(made)
    assert (given.source, given.prefixes) == ("dataset", [f"raw/default/flights/{batch}/"])


def test_score4_files_can_be_scored() -> None:
    made = world(input=OBJECT)
    given = work(made)
    assert given.object is not None
    assert given.format is not None
    assert (given.object.uri, given.format.type, given.input) == ("s3://requests/", "jsonl", None)


def test_score4_it_scores_again_when_the_model_or_the_input_is_new() -> None:
    made = world()
    made.settle()
    made.sources[RAW] = "new"
    made.settle()
    # The new version is scored by the old model at once, then by the new one.
    assert len(executions(made)) == 3
    made.now += timedelta(days=1)
    made.settle()
    assert len(executions(made)) == 3


def test_score4_with_a_schedule_it_scores_at_the_tick_if_there_is_anything_new() -> None:
    made = world(schedule={"cron": "0 3 * * *"})
    made.settle()
    made.sources[RAW] = "new"
    made.settle()
    assert len(executions(made)) == 1
    made.now += timedelta(days=1)
    made.settle()
    assert len(executions(made)) == 2
    made.now += timedelta(days=1)
    made.settle()
    assert len(executions(made)) == 2


def test_score4_files_are_scored_anew_at_each_tick() -> None:
    made = world(input=OBJECT, schedule={"cron": "0 3 * * *"})
    for expected in (1, 2, 3):
        made.settle()
        assert len(executions(made)) == expected
        made.now += timedelta(days=1)


def test_score4_files_that_are_seen_to_have_changed_are_scored_anew() -> None:
    made = world(input=OBJECT)
    for content in ("a", "a", "b"):
        made.sources[SCORING] = content
        made.settle()
    assert len(executions(made)) == 2
    made.sources[SCORING] = "c"
    made.reconcile(SCORING)
    del made.sources[SCORING]  # nobody looks while they are read
    made.reconcile(SCORING)
    made.succeed(SCORING)
    made.sources[SCORING] = "c"
    made.settle()
    assert len(executions(made)) == 3
    assert kstatus(made.resources[SCORING]) == "Current"


def test_score4_a_part_of_the_split_is_that_of_the_model() -> None:
    made = world(input={"type": "featureSet", "featureSet": {"name": "flights", "part": "test"}})
    before = version(made)
    made.edit(SERVED, suspend=True)
    made.sources[RAW] = "new"
    made.settle()
    assert version(made) != before
    (execution,) = executions(made)
    (job,) = [j for j in made.wanted.values() if j.input.execution == execution]
    assert isinstance(job.input.work, ScoreWork)
    assert job.input.work.part == "test"
    assert job.input.work.input is not None
    assert job.input.work.input.ids == [before]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "other", "part": "test"}, "spec.input.featureSet.part: ModelCandidate {0} was not fitted on a split"),
        (
            {"name": "flights", "part": "test", "version": "features-old"},
            "spec.input.featureSet.version: ModelCandidate {0} was fitted on a split of {1}, not of features-old;",
        ),
    ],
)
def test_score4_a_part_that_does_not_fit_the_model_is_refused(given: dict[str, str], message: str) -> None:
    made = world(input={"type": "featureSet", "featureSet": given})
    made.reconcile(SCORING)
    said = says(made.resources[SCORING])
    assert said is not None
    assert said[1] == Reason.INVALID_SPEC
    assert said[2].startswith(message.format(best(made), version(made)))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (SERVED, "waits for Deployment default/late, which does not exist"),
        (ref(Kind.FEATURE_SET, "flights"), "waits for FeatureSet default/flights, which does not exist"),
    ],
)
def test_x8_what_is_missing_is_named(missing: Any, message: str) -> None:
    made = world()
    del made.resources[missing]
    made.reconcile(SCORING)
    assert says(made.resources[SCORING]) == ("False", Reason.WAITING_FOR_REFERENCE, message)


def test_x8_a_deployment_that_serves_nothing_yet_is_waited_for() -> None:
    made = World()
    made.add(deployment(), scoring_run())
    made.reconcile(SCORING)
    assert says(made.resources[SCORING]) == (
        "False",
        Reason.WAITING_FOR_INPUT,
        "waits for Deployment default/late, which serves no version yet",
    )


def test_eval5_a_candidate_measured_anew_with_other_bytes_scores_again() -> None:
    made = world(model={"candidate": "fixed"})
    made.add(candidate("fixed"))
    made.settle()
    found = made.resources[ref(Kind.MODEL_CANDIDATE, "fixed")]
    assert isinstance(found, ModelCandidate)
    made.add(found.model_copy(update={"status": found.status.model_copy(update={"digest": "sha256:" + "1" * 64})}))
    made.settle()
    assert len(executions(made)) == 2
