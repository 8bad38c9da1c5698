"""An ingestion against the real stores: files in a bucket of their own, the step run in this process or in its own."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada import names
from levada.artifacts import BatchManifest, StoredFile
from levada.engines.local.servers import Endpoints, NatsEndpoint, S3Endpoint
from levada.names import Kind
from levada.resources.dataset import DatasetSpec
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.ingest import run
from levada.steps.io import IngestOutput, IngestWork, Owner, StepInput, StepResult, Termination
from levada.stores.open import open_catalogue, open_objects
from levada.stores.ports import Catalogue, Objects
from tests.conftest import s3_client

_numbers = itertools.count(1)


@dataclass
class Ingestion:
    """A Dataset whose files lie in the bucket `landing`, and its batches."""

    endpoints: Endpoints
    landing: str
    objects: Objects
    catalogue: Catalogue
    folder: Path
    warnings: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        fields = {n.removeprefix("LEVADA_").lower(): value for n, value in self.endpoints.environment().items()}
        return Settings.model_validate(fields)

    def put(self, name: str, content: bytes | str) -> None:
        """Put a file into the landing bucket below `in/`."""
        data = content.encode() if isinstance(content, str) else content
        s3_client(self.endpoints.objects).put_object(self.landing, f"in/{name}", io.BytesIO(data), len(data))

    def spec(self, type: str = "csv", pattern: str = "*", uri: str | None = None, **more: Any) -> DatasetSpec:
        """A Dataset's spec; `format` adds to the format, `object` to the source."""
        source = {"uri": uri or f"s3://{self.landing}/in/", "pattern": pattern, **more.pop("object", {})}
        document = {
            "source": {"type": "object", "object": source},
            "format": {"type": type, **more.pop("format", {})},
            **more,
        }
        return DatasetSpec.model_validate(document)

    def input(self, spec: DatasetSpec, batch: str, parts: int = 1) -> StepInput:
        owner = Owner(kind=Kind.DATASET, namespace="default", name="things", uid="1", generation=1)
        work = IngestWork(batch=batch, spec=spec)
        return StepInput(job=f"things-ingest-{batch}", owner=owner, execution=batch, completions=parts, work=work)

    def prefix(self, batch: str) -> str:
        return names.batch_prefix("default", "things", batch)

    def run_index(self, step: StepInput, index: int, allow_files: bool = False) -> IngestOutput | None:
        """One index, in this process."""
        scratch = self.folder / f"scratch{next(_numbers)}"
        scratch.mkdir()
        context = StepContext(
            input=step,
            index=index,
            scratch=scratch,
            open_objects=lambda: self.objects,
            open_catalogue=lambda: self.catalogue,
            open_online=lambda: pytest.fail("ingest has no use for online features"),
            allow_file_sources=allow_files,
        )
        try:
            return run(context)
        finally:
            self.warnings += context.warnings

    def run(self, spec: DatasetSpec, parts: int = 1, batch: str = "", allow_files: bool = False) -> Batch:
        """All indexes, one after the other."""
        batch = batch or f"batch-{next(_numbers)}"
        step = self.input(spec, batch, parts)
        outputs = [self.run_index(step, index, allow_files) for index in range(parts)]
        assert [output is not None for output in outputs] == [False] * (parts - 1) + [True]
        assert outputs[-1] is not None
        return Batch(self, outputs[-1])

    def process(self, step: StepInput, index: int, **environment: str) -> tuple[int, Termination | None]:
        """One index in a process of its own, as an engine runs it: exit code and termination."""
        folder = self.folder / f"process{next(_numbers)}"
        folder.mkdir()
        (folder / "input.json").write_bytes(step.to_bytes())
        log = folder / "termination.json"
        done = subprocess.run(
            [sys.executable, "-m", "levada.steps", str(folder / "input.json")],
            env=os.environ
            | self.endpoints.environment()
            | {"JOB_COMPLETION_INDEX": str(index), "LEVADA_TERMINATION_LOG": str(log), "LEVADA_SCRATCH": str(folder)}
            | environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 65, -9), done.stderr.decode()
        return done.returncode, Termination.from_bytes(log.read_bytes()) if log.exists() else None

    def output(self, termination: Termination | None) -> IngestOutput | None:
        assert termination is not None
        assert termination.result is not None
        output = StepResult.from_bytes(self.objects.get(termination.result)).output
        assert output is None or isinstance(output, IngestOutput)
        return output


@dataclass(frozen=True)
class Batch:
    """A committed batch."""

    ingestion: Ingestion
    output: IngestOutput

    @property
    def manifest(self) -> BatchManifest:
        return self.output.manifest

    def bytes(self, file: StoredFile) -> bytes:
        return self.ingestion.objects.get(self.output.prefix + file.key)

    def parquet(self, file: StoredFile) -> pq.ParquetFile:
        return pq.ParquetFile(io.BytesIO(self.bytes(file)))

    @property
    def table(self) -> pa.Table:
        return pa.concat_tables(self.parquet(file).read() for file in self.manifest.typed)

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    @property
    def quarantine(self) -> list[tuple[str, int, str | None, str, str]]:
        rows = [row for file in self.manifest.quarantine for row in self.parquet(file).read().to_pylist()]
        return [(row["file"], row["line"], row["column"], row["reason"], row["text"]) for row in rows]

    @property
    def types(self) -> dict[str, str]:
        return {column.name: column.type.value for column in self.manifest.columns}

    def digests(self) -> dict[str, str]:
        """Every object of the batch with its digest."""
        objects = self.ingestion.objects
        return {
            info.key.removeprefix(self.output.prefix): names.digest(objects.get(info.key))
            for info in objects.list(self.output.prefix)
        }


@pytest.fixture
def ingestion(
    catalogue_dsn: str, bucket: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ingestion]:
    endpoints = Endpoints(catalogue_dsn, NatsEndpoint("", "", ""), bucket)
    for name, value in endpoints.environment().items():
        monkeypatch.setenv(name, value)
    landing = f"{bucket.bucket}-landing"
    s3_client(replace(bucket, bucket=landing)).make_bucket(landing)
    settings = Settings()
    with closing(open_catalogue(settings)) as catalogue:
        yield Ingestion(endpoints, landing, open_objects(settings), catalogue, tmp_path)
