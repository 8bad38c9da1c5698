"""TrainingRun and ModelCandidate: training, candidates, evaluation, gate and best."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from levada.names import Kind
from levada.planners import references_of
from levada.planners.plan import Action, Decision
from levada.resources import ModelCandidate, TrainingRun
from levada.resources.conditions import ConditionType, Reason
from levada.steps.io import EvaluateWork, StepError, StepResult, TrainOutput, TrainWork
from tests.unit.planners.worlds import World, candidate, dataset, feature_set, kstatus, ref, says, training_run

RUN, FEATURES, RAW = ref(Kind.TRAINING_RUN, "late"), ref(Kind.FEATURE_SET, "flights"), ref(Kind.DATASET, "flights")


def world(**spec: Any) -> World:
    """A TrainingRun whose input is there."""
    made = World(metrics={"linear": {"rocAuc": 0.66, "logLoss": 0.5}, "trees": {"rocAuc": 0.69, "logLoss": 0.6}})
    made.add(dataset(), feature_set())
    made.settle()
    made.add(training_run(**spec))
    return made


def run(made: World) -> TrainingRun:
    found = made.resources[RUN]
    assert isinstance(found, TrainingRun)
    return found


def best(made: World) -> str | None:
    found = run(made).status.best
    return None if found is None else found.name.split("-")[1]


def candidates(made: World) -> list[ModelCandidate]:
    return [r for r in made.resources.values() if isinstance(r, ModelCandidate)]


def refuse(made: World, index: int, why: str = "the worst row differs by 0.1") -> None:
    """Let the training job succeed with one candidate refused by the step."""
    made.succeed(RUN)
    (name,) = made.jobs[RUN]
    job = made.jobs[RUN][name]
    results: list[StepResult] = list(job.results)
    output = results[index].output
    assert isinstance(output, TrainOutput)
    refused = output.candidate.model_copy(
        update={"refused": StepError(reason=Reason.PARITY_BROKEN, message=why), "onnx_digest": ""}
    )
    results[index] = results[index].model_copy(update={"output": TrainOutput(candidate=refused)})
    made.jobs[RUN][name] = replace(job, results=tuple(results))


def test_train3_each_algorithm_is_an_index_of_one_job() -> None:
    made = world(parallelism={"workers": 8}, split={"type": "sequential"})
    made.edit(FEATURES, transform=[{"columns": ["id"], "steps": [{"scale": "robust"}]}])
    made.settle()
    made.resources.pop(RUN)
    made.jobs.pop(RUN)
    made.add(training_run(parallelism={"workers": 8}))
    (job,) = made.reconcile(RUN).jobs
    work = job.input.work
    assert isinstance(work, TrainWork)
    assert (job.completions, job.parallelism) == (2, 2)
    assert work.features_prefix == f"features/default/flights/{work.version}/"
    assert [s.scale for t in work.transform for s in t.steps] == ["robust"]
    assert len(set(work.candidates)) == 2


def test_train5_each_candidate_becomes_a_model_candidate_with_its_provenance() -> None:
    made = world(evaluators=["roc"], retries=7)
    made.reconcile(RUN)
    made.succeed(RUN)
    planned = made.reconcile(RUN)
    assert [d.action for d in planned.decisions] == [Action.CANDIDATE_CREATED] * 2
    first = candidates(made)[0]
    execution = run(made).status.execution
    assert execution is not None
    assert first.spec.provenance.document() == {
        "trainingRun": "late",
        "execution": execution.id,
        "algorithm": "linear",
        "featureSet": "flights",
        "featureSetVersion": run(made).status.feature_set_version,
        "split": run(made).status.split.id,  # type: ignore[union-attr]
    }
    assert first.spec.model.uri == f"s3://levada/models/default/{first.metadata.name}/"
    assert first.spec.model.digest == run(made).status.candidates[0].digest
    assert (first.spec.evaluators, first.spec.retries) == (["roc"], 7)
    assert first.ref in references_of(run(made))


def test_eval1_a_candidate_is_measured_by_the_evaluators_of_its_task() -> None:
    made = World()
    made.add(candidate())
    (job,) = made.reconcile(ref(Kind.MODEL_CANDIDATE, "late-linear")).jobs
    work = job.input.work
    assert isinstance(work, EvaluateWork)
    assert work.evaluators == ["roc", "precisionRecall", "calibration", "confusion"]
    assert (work.model_uri, work.candidate) == ("s3://levada/models/default/late-linear/", "late-linear")


def test_eval1_other_evaluators_measure_again_without_training_again() -> None:
    made = world()
    made.settle()
    trained = set(made.jobs[RUN])
    made.edit(RUN, evaluators=["roc"])
    made.reconcile(RUN)
    ready = says(run(made))
    assert ready is not None
    assert ready[0] == "Unknown"
    made.settle()
    assert set(made.jobs[RUN]) == trained
    assert kstatus(run(made)) == "Current"
    assert {tuple(c.spec.evaluators) for c in candidates(made)} == {("roc",)}


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (None, "trees"),
        ({"metric": "logLoss", "direction": "minimize"}, "linear"),
        ({"metric": "logLoss", "direction": "maximize"}, "trees"),
        ({"metric": "logLoss"}, "linear"),
        ({"metric": "rocAuc"}, "trees"),
    ],
)
def test_eval3_the_best_is_chosen_by_the_objective(objective: dict[str, str] | None, expected: str) -> None:
    made = world(**({"objective": objective} if objective else {}))
    made.settle()
    assert best(made) == expected


def test_eval3_among_equals_the_first_is_the_best() -> None:
    made = world()
    made.metrics["linear"] = made.metrics["trees"]
    made.settle()
    assert best(made) == "linear"


def test_eval3_the_objective_by_task_is_the_least_error_for_regression() -> None:
    algorithms = [{"name": "linear", "type": "linearRegression"}, {"name": "trees", "type": "boostedTrees"}]
    made = world(task="regression", algorithms=algorithms)
    made.metrics = {"linear": {"rmse": 2.0}, "trees": {"rmse": 3.0}}
    made.settle()
    assert best(made) == "linear"


def test_eval3_the_choice_is_announced_once() -> None:
    made = world()
    made.settle()
    decisions: list[Decision] = []
    made.edit(RUN, objective={"metric": "logLoss", "direction": "minimize"})
    decisions += made.reconcile(RUN).decisions
    decisions += made.reconcile(RUN).decisions
    assert [d.action for d in decisions] == [Action.BEST_CHOSEN]
    assert decisions[0].data["value"] == 0.5


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ({"minimum": {"rocAuc": 0.68}}, "trees"),
        ({"maximum": {"logLoss": 0.55}}, "linear"),
        ({"minimum": {"rocAuc": 0.6}, "maximum": {"logLoss": 0.7}}, "trees"),
    ],
)
def test_eval4_only_what_passes_the_gate_can_be_the_best(gate: dict[str, Any], expected: str) -> None:
    made = world(gate=gate)
    made.settle()
    assert best(made) == expected


def test_eval4_if_nothing_passes_the_gate_every_candidate_is_named_with_what_it_misses() -> None:
    made = world(gate={"minimum": {"rocAuc": 0.9}})
    made.settle()
    assert best(made) is None
    assert says(run(made), ConditionType.FAILED) == (
        "True",
        Reason.GATE_NOT_PASSED,
        "no candidate passes spec.gate: linear has rocAuc 0.66, less than 0.9; trees has rocAuc 0.69, less than 0.9",
    )
    assert kstatus(run(made)) == "Failed"
    trained = set(made.jobs[RUN])
    made.edit(RUN, gate={"minimum": {"rocAuc": 0.5}})
    made.settle()
    assert best(made) == "trees"
    assert set(made.jobs[RUN]) == trained


def test_eval4_a_gate_on_a_metric_that_there_is_not_says_which_there_are() -> None:
    made = world(gate={"maximum": {"rocauc": 0.5}})
    made.settle()
    said = says(run(made))
    assert said is not None
    assert said[2] == (
        "no candidate passes spec.gate: linear has no metric 'rocauc' (it has: logLoss, rocAuc); "
        "trees has no metric 'rocauc' (it has: logLoss, rocAuc)"
    )


def test_eval4_a_gate_that_the_best_passes_no_more_takes_it_away() -> None:
    made = world()
    made.settle()
    made.edit(RUN, gate={"minimum": {"rocAuc": 0.9}})
    made.settle()
    assert best(made) is None


def test_eval4_a_new_training_that_fails_the_gate_leaves_the_old_best() -> None:
    made = world(gate={"minimum": {"rocAuc": 0.68}})
    made.settle()
    before = run(made).status.best
    made.metrics = {"linear": {"rocAuc": 0.5}, "trees": {"rocAuc": 0.5}}
    made.sources[RAW] = "new"
    made.settle()
    assert run(made).status.best == before
    assert kstatus(run(made)) == "Failed"


def test_eval3_a_metric_that_no_candidate_has_is_named() -> None:
    made = world(objective={"metric": "accuracy"})
    made.settle()
    said = says(run(made))
    assert said is not None
    assert said[2] == (
        "no candidate can be the best: linear has no metric 'accuracy' (it has: logLoss, rocAuc); "
        "trees has no metric 'accuracy' (it has: logLoss, rocAuc)"
    )


def test_train6_a_refused_candidate_is_shown_with_its_reason_and_the_others_go_on() -> None:
    made = world()
    made.reconcile(RUN)
    refuse(made, 1)
    planned = made.reconcile(RUN)
    assert Action.CANDIDATE_REFUSED in {d.action for d in planned.decisions}
    made.settle()
    assert best(made) == "linear"
    states = [(c.algorithm, c.state, c.message) for c in run(made).status.candidates]
    assert states == [("linear", "Evaluated", ""), ("trees", "Refused", "the worst row differs by 0.1")]
    assert len(candidates(made)) == 1


def test_eval1_what_candidates_warn_of_the_run_warns_of_too_by_their_names() -> None:
    made = world()
    made.reconcile(RUN)
    made.succeed(RUN, warnings=("the classes are shifted",))
    made.reconcile(RUN)
    first, second = [c.ref for c in candidates(made)]
    made.reconcile(first)
    made.succeed(first, warnings=("there is no test part",))
    made.settle()
    expected = ["the classes are shifted", f"{first.name}: there is no test part"]
    assert run(made).status.warnings == expected
    made.edit(RUN, evaluators=["roc"])  # both are measured anew, and the warning is of the other
    made.reconcile(RUN)
    made.reconcile(second)
    made.succeed(second, warnings=tuple(f"there is no {n}" for n in range(40)))
    made.settle()
    warnings = run(made).status.warnings
    assert warnings[:2] == ["the classes are shifted", f"{second.name}: there is no 0"]
    assert len(warnings) == 32


def test_eval1_a_candidate_whose_evaluation_fails_is_left_out() -> None:
    made = world()
    made.reconcile(RUN)
    made.succeed(RUN)
    made.reconcile(RUN)
    broken = candidates(made)[1].ref
    made.reconcile(broken)
    made.fail(broken, Reason.INVALID_DATA, "the model cannot be loaded")
    made.settle()
    assert best(made) == "linear"
    assert run(made).status.candidates[1].message == "the model cannot be loaded"


def test_train4_a_failed_training_keeps_the_old_best_and_says_why() -> None:
    made = world()
    made.settle()
    before = run(made).status.best
    made.sources[RAW] = "new"
    for each in (RAW, FEATURES):
        made.reconcile(each)
        made.succeed(each)
        made.reconcile(each)
    made.reconcile(RUN)
    made.fail(RUN, Reason.CONSTANT_LABEL, "the label is always 0")
    made.reconcile(RUN)
    assert run(made).status.best == before
    assert says(run(made), ConditionType.FAILED) == ("True", Reason.CONSTANT_LABEL, "the label is always 0")
    assert says(run(made), ConditionType.COMPLETE) is None


def test_train1_other_transforms_train_again() -> None:
    made = world()
    made.settle()
    before = run(made).status.execution
    made.edit(FEATURES, transform=[{"columns": ["id"], "steps": [{"scale": "robust"}]}])
    made.settle()
    assert run(made).status.execution != before
    assert kstatus(run(made)) == "Current"


@pytest.mark.parametrize("policy", ["Forbid", "Allow", "Replace"])
def test_x6_a_tick_without_anything_new_leaves_the_running_training_alone(policy: str) -> None:
    made = world(schedule={"cron": "0 3 * * *", "concurrencyPolicy": policy})
    (job,) = made.reconcile(RUN).jobs
    made.now += timedelta(days=1)
    planned = made.reconcile(RUN)
    assert planned.jobs == (job,)
    assert planned.decisions == ()


def test_train1_a_pinned_version_is_not_left() -> None:
    made = world()
    version = made.resources[FEATURES].status.latest_version.id  # type: ignore[union-attr]
    made.edit(RUN, featureSet={"name": "flights", "version": version})
    made.settle()
    before = run(made).status.execution
    made.sources[RAW] = "new"
    made.settle()
    assert run(made).status.execution == before


def test_split2_the_split_is_the_same_for_the_same_version_and_definition() -> None:
    first, second = world(), world(algorithms=[{"name": "tree", "type": "decisionTree"}])
    other = world(split={"seed": 1})
    for made in (first, second, other):
        made.settle()
    splits = [run(made).status.split.id for made in (first, second, other)]  # type: ignore[union-attr]
    assert splits[0] == splits[1] != splits[2]
    assert run(first).status.split.rows == {"train": 8, "test": 2}  # type: ignore[union-attr]


@pytest.mark.parametrize("split", [{}, {"seed": 1}])
def test_split2_another_threshold_for_a_warning_trains_nothing_anew(split: dict[str, Any]) -> None:
    made = world(split=split)
    made.settle()
    trained = run(made).status.execution
    made.edit(RUN, split={**split, "maxImbalance": 0.3})
    made.settle()
    assert run(made).status.execution == trained
    assert kstatus(run(made)) == "Current"
    (job,) = [made.wanted[name] for name in made.jobs[RUN]]
    again = world(split={**split, "maxImbalance": 0.3})
    (other,) = again.reconcile(RUN).jobs
    assert isinstance(job.input.work, TrainWork)
    assert isinstance(other.input.work, TrainWork)
    assert other.input.work.split == job.input.work.split


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"algorithms": [{"name": "a", "type": "boostedTree"}]},
            Reason.INVALID_SPEC,
            "spec.algorithms[0].type: there is no algorithm 'boostedTree'; did you mean 'boostedTrees'?",
        ),
        (
            {"algorithms": [{"name": "a", "type": "kMeans"}]},
            Reason.INVALID_SPEC,
            "spec.algorithms[0].type: the algorithm 'kMeans' is not for classification; use logisticRegression or "
            "decisionTree or randomForest or boostedTrees",
        ),
        (
            {"evaluators": ["roc", "regressionErrors"]},
            Reason.INVALID_SPEC,
            "spec.evaluators[1]: the evaluator 'regressionErrors' is not for classification; use roc or "
            "precisionRecall or calibration or confusion",
        ),
        (
            {"task": "forecast"},
            Reason.NOT_SUPPORTED,
            "spec.task: forecast is not supported yet; use classification, regression or clustering",
        ),
        ({"search": {}}, Reason.NOT_SUPPORTED, "spec.search is not supported yet; leave it out"),
        (
            {"gate": {"incumbent": {"deployment": "late"}}},
            Reason.NOT_SUPPORTED,
            "spec.gate.incumbent is not supported yet; leave it out",
        ),
        (
            {"parallelism": {"mode": "data"}},
            Reason.NOT_SUPPORTED,
            "spec.parallelism.mode: data is not supported yet; use models",
        ),
        (
            {"objective": {"metric": "lift"}},
            Reason.INVALID_SPEC,
            "spec.objective.direction is missing, and which way is better for the metric 'lift' is not known; "
            "write maximize or minimize",
        ),
        (
            {"objective": {"metric": "rocauc"}},
            Reason.INVALID_SPEC,
            "spec.objective.direction is missing, and which way is better for the metric 'rocauc' is not known; "
            "write maximize or minimize, or did you mean the metric 'rocAuc'?",
        ),
    ],
)
def test_train2_what_is_unknown_or_not_supported_is_named(spec: dict[str, Any], reason: Reason, message: str) -> None:
    made = world(**spec)
    made.settle()
    assert says(run(made)) == ("False", reason, message)
    assert RUN not in made.jobs or not made.jobs[RUN]


def test_eval5_a_changed_child_is_put_right_again() -> None:
    made = world()
    made.settle()
    child = candidates(made)[0]
    made.edit(child.ref, evaluators=["confusion"])
    made.settle()
    assert made.resources[child.ref].spec == child.spec
    assert kstatus(run(made)) == "Current"
