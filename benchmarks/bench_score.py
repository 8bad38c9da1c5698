"""Batch scoring against onnxruntime alone on the same rows: the flights of two years, both models of the example.

The subject is the whole score step in this process: manifests, Parquet from the S3 server, tensors, the ONNX run, score
rows as Parquet, digest, upload, receipt, manifest, catalogue. The twin is only the ONNX run: its tensors lie in memory
before the clock starts, it takes the same chunks on the same number of threads, and what it gives is thrown away. With
one thread the subject's reading and writing may use the machine's other core, with two they share both. For
orientation, the loop that one writes first: read all, run, write all, one after the other. The goal is that of the
model that serves; the logistic regression runs faster than Parquet can be decoded, so it shows what the rest costs.

The last figure is the peak memory of the step as a process of its own, over ten million rows. Rounds are interleaved
and change who goes first.

`python -m benchmarks.bench_score [--years N] [--rounds N] [--million N]`
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks import bench_prepare
from benchmarks.report import Measured, Ratio, Report
from levada import names
from levada.artifacts import FeatureManifest, ModelManifest
from levada.engines.local.servers import LocalServers
from levada.features.model import OnnxModel
from levada.names import Kind
from levada.resources.featureset import Transform
from levada.resources.trainingrun import TrainingRunSpec
from levada.settings import Settings
from levada.steps import score, train
from levada.steps.context import StepContext
from levada.steps.io import Owner, ScoreWork, StepInput, TrainWork, Work
from levada.steps.rows import ParquetRows, tensors
from levada.stores.open import open_catalogue, open_objects
from levada.stores.ports import Catalogue, Objects

YEARS, ROUNDS, MILLION = 2, 5, 10
NAMESPACE = bench_prepare.NAMESPACE
# The kernel's own figure for a child that ended counts what its parent held when it was forked.
IN_ITS_OWN_PROCESS = """
import re, sys
from pathlib import Path
from levada.steps.process import main
assert main(Path(sys.argv[1])) == 0
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@dataclass
class Bench:
    """The stores, a version of the flights, and models that were trained on it."""

    objects: Objects
    catalogue: Catalogue
    environment: dict[str, str]
    folder: Path
    version: FeatureManifest
    prefix: str
    numbers: count[int]

    def context(self, work: Work, kind: Kind, execution: str, index: int = 0, parts: int = 1) -> StepContext:
        scratch = self.folder / f"scratch-{execution}-{index}"
        scratch.mkdir()
        owner = Owner(kind=kind, namespace=NAMESPACE, name="flights", uid="1", generation=1)
        return StepContext(
            input=StepInput(job=execution, owner=owner, execution=execution, completions=parts, work=work),
            index=index,
            scratch=scratch,
            open_objects=lambda: self.objects,
            open_catalogue=lambda: self.catalogue,
            open_online=lambda: NotImplemented,
        )

    def train(self) -> list[ModelManifest]:
        """The example's models, fitted on the first year."""
        document = yaml.safe_load((bench_prepare.EXAMPLE / "training.yaml").read_text())["spec"]
        spec = TrainingRunSpec.model_validate(document)
        feature_set = yaml.safe_load((bench_prepare.EXAMPLE / "features-flights.yaml").read_text())["spec"]
        work = TrainWork(
            execution="training-1",
            split="split-1",
            feature_set="flights",
            version=self.version.version,
            features_prefix=self.prefix,
            spec=spec,
            transform=[Transform.model_validate(entry) for entry in feature_set["transform"]],
            candidates=[algorithm.name for algorithm in spec.algorithms],
        )
        models = []
        for index, _ in enumerate(work.candidates):
            context = self.context(work, Kind.TRAINING_RUN, "training-1", index, len(work.candidates))
            candidate = train.run(context).candidate
            assert candidate.refused is None
            models.append(ModelManifest.from_bytes(self.objects.get(candidate.prefix + names.MANIFEST)))
        return models

    def many(self, years: int) -> str:
        """A version that holds the rows of the first so many times; its prefix."""
        prefix = names.features_prefix(NAMESPACE, "flights", f"features-{years}-years")
        files = self.version.files * years
        for file in self.version.files:
            self.objects.put(prefix + file.key, self.objects.get(self.prefix + file.key))
        manifest = self.version.model_copy(update={"files": files, "rows": self.version.rows * years})
        self.objects.put(prefix + names.MANIFEST, manifest.to_bytes())
        return prefix

    def work(self, model: ModelManifest, prefix: str, catalogue: bool) -> ScoreWork:
        return ScoreWork(
            execution=f"scoring-{next(self.numbers)}",
            candidate=model.candidate,
            model_prefix=names.model_prefix(NAMESPACE, model.candidate),
            source="featureSet",
            prefixes=[prefix],
            catalogue=catalogue,
        )

    def by_levada(self, model: ModelManifest, prefix: str, catalogue: bool) -> int:
        """The step; how many rows it scored."""
        work = self.work(model, prefix, catalogue)
        context = self.context(work, Kind.SCORING_RUN, work.execution)
        output = score.run(context)
        shutil.rmtree(context.scratch)
        assert output is not None
        return output.manifest.rows

    def naively(self, model: ModelManifest, prefix: str) -> int:
        """Read, run, write; how many rows."""
        manifest = FeatureManifest.from_bytes(self.objects.get(prefix + names.MANIFEST))
        columns = [column.name for column in model.inputs] + [*manifest.keys, str(manifest.timestamp)]
        table = ParquetRows(self.objects, prefix, manifest.files).read(list(dict.fromkeys(columns)))
        found = self.session(model).session.run(None, tensors(table, model.inputs))
        probabilities = np.asarray(found[1])
        scored = table.select([*manifest.keys, str(manifest.timestamp)])
        scored = scored.append_column("label", pa.array(found[0])).append_column(
            "probabilities", pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), 2)
        )
        pq.write_table(scored, self.folder / "naive.parquet", compression="zstd")
        self.objects.put_file("by-hand/scores.parquet", self.folder / "naive.parquet")
        return int(table.num_rows)

    def session(self, model: ModelManifest) -> OnnxModel:
        return OnnxModel(self.objects.get(names.model_prefix(NAMESPACE, model.candidate) + model.onnx.key))

    def peak_gibibytes(self, model: ModelManifest, million: int) -> tuple[int, float]:
        """Rows, and peak resident memory of the step's process over so many million of them."""
        prefix = self.many(-(-million * 1_000_000 // self.version.rows))
        work = self.work(model, prefix, catalogue=True)
        path = self.folder / "input.json"
        context = self.context(work, Kind.SCORING_RUN, work.execution)
        path.write_bytes(context.input.to_bytes())
        environment = {"LEVADA_TERMINATION_LOG": str(self.folder / "end.json"), "LEVADA_SCRATCH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-c", IN_ITS_OWN_PROCESS, str(path)],
            env=os.environ | self.environment | environment,
            check=True,
            capture_output=True,
            text=True,
        )
        manifest = FeatureManifest.from_bytes(self.objects.get(prefix + names.MANIFEST))
        return manifest.rows, int(done.stdout.split()[-1]) / 2**20


@contextmanager
def opened() -> Iterator[Bench]:
    """Servers, and the example's features prepared on them."""
    with tempfile.TemporaryDirectory() as home, LocalServers(Path(home, "home"), durable=False) as servers:
        environment = servers.start_all().environment()
        variables = {key.removeprefix("LEVADA_").lower(): value for key, value in environment.items()}
        with closing(open_catalogue(Settings.model_validate(variables))) as catalogue:
            catalogue.migrate()
            objects, numbers = open_objects(Settings.model_validate(variables)), count()
            first = bench_prepare.Bench(objects, catalogue, Path(home), numbers)
            batches = {name: first.add_batch(name, paths) for name, paths in bench_prepare.typed(Path(home), 1).items()}
            example = bench_prepare.example
            others = [first.by_levada(name, example(name), batches[name], []) for name in ("planes", "weather")]
            flights = first.by_levada("flights", example("flights"), batches["flights"], others)
            yield Bench(objects, catalogue, environment, Path(home), flights.manifest, flights.prefix, numbers)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and of this process's CPU."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def measure(years: int, rounds: int, million: int) -> Report:
    """Both models, on one thread and on two."""
    report = Report("Score")
    with opened() as bench:
        prefix = bench.many(years)
        rows = bench.version.rows * years
        for model in bench.train():
            session = bench.session(model)
            table = ParquetRows(bench.objects, bench.prefix, bench.version.files * years).read(session.inputs)
            columns = tensors(table, model.inputs)
            del table
            for threads in (1, 2):
                os.environ["LEVADA_CPUS"] = str(threads)
                subjects: dict[str, Callable[[], Any]] = {
                    "subject": lambda model=model: bench.by_levada(model, prefix, False),  # type: ignore[misc]
                    "catalogue": lambda model=model: bench.by_levada(model, prefix, True),  # type: ignore[misc]
                    "twin": lambda session=session, columns=columns, threads=threads: session.run_all(  # type: ignore[misc]
                        columns, threads
                    ),
                }
                if threads == 1:
                    subjects["naive"] = lambda model=model: bench.naively(model, prefix)  # type: ignore[misc]
                took: dict[str, list[float]] = {who: [] for who in subjects}
                cpu: dict[str, list[float]] = {who: [] for who in subjects}
                for number in range(rounds + 1):
                    for who in sorted(subjects, reverse=bool(number % 2)):
                        seconds, used = timed(subjects[who])
                        if number:  # the first round warms up
                            took[who].append(seconds)
                            cpu[who].append(used)
                name = f"{model.type}, {rows:,} rows, {threads} thread{'s' if threads > 1 else ''}"
                pairs = {who: list(zip(took[who], took["twin"], strict=True)) for who in took}
                goal = "≥ 0.85" if model.type == "boostedTrees" else ""
                report.add(Ratio(f"{name}: seconds", pairs["subject"], goal=goal, inverse=True))
                work = list(zip(cpu["subject"], cpu["twin"], strict=True))
                report.add(Ratio(f"{name}: CPU seconds", work, inverse=True))
                report.add(Ratio(f"{name}, catalogue too: seconds", pairs["catalogue"], inverse=True))
                if threads == 1:
                    report.add(Ratio(f"{name}, one after the other: seconds", pairs["naive"], inverse=True))
                report.add(Measured(f"{name}: rows/s", [rows / seconds for seconds in took["subject"]]))
            del columns
            os.environ.pop("LEVADA_CPUS")
        scored, peak = bench.peak_gibibytes(model, million)
        report.add(Measured(f"{model.type}, {scored:,} rows, catalogue too: GiB at peak", [peak], goal="≤ 1.5"))
    return report


def run() -> Report:
    """For `make bench`."""
    return measure(YEARS, ROUNDS, MILLION)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=YEARS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--million", type=int, default=MILLION)
    arguments = parser.parse_args()
    print(measure(arguments.years, arguments.rounds, arguments.million).markdown())
