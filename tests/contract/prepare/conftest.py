"""A preparation as its step runs it: real stores, batches laid down as ingestion does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada import names
from levada.artifacts import BatchManifest, LookupSpec, StoredFile
from levada.features.tensors import ARROW_TYPES
from levada.names import Kind
from levada.resources.base import parse_duration
from levada.resources.dataset import Column
from levada.resources.featureset import FeatureSetSpec
from levada.settings import Settings
from levada.steps import prepare
from levada.steps.context import ProgressFile, StepContext
from levada.steps.io import InputBatch, Owner, PrepareOutput, PrepareWork, StepInput
from levada.stores.open import open_catalogue, open_objects, open_online
from levada.stores.ports import Catalogue, Objects

NAMESPACE = "default"
TYPES = {arrow: column for column, arrow in ARROW_TYPES.items()}


@dataclass
class World:
    """Datasets and feature sets by name; `prepare` runs the step."""

    settings: Settings
    folder: Path
    objects: Objects = field(init=False)
    catalogue: Catalogue = field(init=False)
    batches: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, PrepareOutput] = field(default_factory=dict)
    context: StepContext = field(init=False)
    progress: ProgressFile = field(default_factory=lambda: ProgressFile(None))
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.objects = open_objects(self.settings)
        self.catalogue = open_catalogue(self.settings)

    def add_batch(self, dataset: str, columns: Mapping[str, Sequence[Any]] | pa.Table, files: int = 1) -> str:
        """Lay a batch down as so many typed files; its id."""
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        batch = f"batch-{next(self._numbers):04}"
        prefix = names.batch_prefix(NAMESPACE, dataset, batch)
        typed = []
        for number in range(files if table.num_rows else 0):
            start, stop = (table.num_rows * i // files for i in (number, number + 1))
            path = self.folder / "typed.parquet"
            pq.write_table(table.slice(start, stop - start), path)
            key = f"typed/{number:05}.parquet"
            self.objects.put_file(prefix + key, path)
            typed.append(StoredFile(key=key, bytes=path.stat().st_size, digest="", rows=stop - start))
        manifest = BatchManifest(
            batch=batch,
            namespace=NAMESPACE,
            dataset=dataset,
            columns=[Column(name=f.name, type=TYPES[f.type]) for f in table.schema],
            rows=table.num_rows,
            originals=[],
            typed=typed,
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
        )
        self.objects.put(prefix + names.MANIFEST, manifest.to_bytes())
        self.batches.setdefault(dataset, []).append(batch)
        return batch

    def work(self, name: str, spec: Mapping[str, Any]) -> PrepareWork:
        """What the planner makes of a spec."""
        parsed = FeatureSetSpec.model_validate(spec)
        inputs = []
        for given in parsed.inputs:
            ids = self.batches[given.dataset] if given.batches == "all" else self.batches[given.dataset][-1:]
            inputs.append(
                InputBatch(
                    dataset=given.dataset,
                    alias=given.alias or given.dataset.replace("-", "_"),
                    batches=ids,
                    prefixes=[names.batch_prefix(NAMESPACE, given.dataset, id) for id in ids],
                )
            )
        lookups = []
        for lookup in parsed.lookups:
            other = self.versions[lookup.feature_set].manifest
            lookups.append(
                LookupSpec(
                    feature_set=lookup.feature_set,
                    namespace=NAMESPACE,
                    version=other.version,
                    prefix=self.versions[lookup.feature_set].prefix,
                    on=lookup.keys,
                    keys=other.keys,
                    key_types=[],
                    as_of=lookup.as_of,
                    timestamp=other.timestamp,
                    tolerance_seconds=parse_duration(lookup.tolerance).total_seconds() if lookup.tolerance else None,
                    columns=[],
                )
            )
        version = names.derived_id(names.Prefix.FEATURES, [name, spec, [i.batches for i in inputs]])
        return PrepareWork(version=version, spec=parsed, inputs=inputs, lookups=lookups)

    def prepare(self, name: str, spec: Mapping[str, Any], memory: int | None = None) -> PrepareOutput:
        """Run the step in a scratch folder of its own; `context` is what it was given."""
        return self.run(name, self.work(name, spec), memory)

    def run(self, name: str, work: PrepareWork, memory: int | None = None) -> PrepareOutput:
        scratch = self.folder / f"scratch{next(self._numbers)}"
        scratch.mkdir()
        owner = Owner(kind=Kind.FEATURE_SET, namespace=NAMESPACE, name=name, uid=f"uid-{name}", generation=1)
        self.context = StepContext(
            input=StepInput(job=f"{name}-prepare", owner=owner, execution=work.version, work=work),
            index=0,
            scratch=scratch,
            open_objects=lambda: self.objects,
            open_catalogue=lambda: self.catalogue,
            open_online=lambda: open_online(self.settings),
            memory_limit_bytes=memory,
            progress=self.progress,
        )
        output = prepare.run(self.context)
        assert output is not None
        self.versions[name] = output
        return output

    def rows(self, output: PrepareOutput) -> pa.Table:
        """All rows of a version, from the files that its manifest names."""
        tables = []
        for file in output.manifest.files:
            with self.objects.reader(output.prefix + file.key) as stream:
                tables.append(pq.read_table(stream))
        return pa.concat_tables(tables)


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    """Nothing prepared yet."""
    made = World(settings, tmp_path)
    yield made
    made.catalogue.close()
