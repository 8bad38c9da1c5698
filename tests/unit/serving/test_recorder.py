"""Scores on their way to a catalogue that is away."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from levada.serving import binary
from levada.serving.recorder import BACK_OFF, Recorder, ScoreIds
from levada.serving.spool import Spool
from levada.settings import Settings
from levada.stores.open import open_catalogue
from tests.support.waiting import until
from tests.unit.serving import small
from tests.unit.serving.test_spool import full_disk

MODEL = small.served()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """Over a catalogue whose port refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dsn = SecretStr(f"postgresql://levada@127.0.0.1:{taken.getsockname()[1]}/levada")
        with closing(open_catalogue(Settings(postgres_dsn=dsn))) as catalogue:
            made = Recorder(catalogue, Spool(tmp_path, "a", 10**6), "a", "default", "small", interval=0.01)
            made.start()
            yield made
            made.close()


def record(recorder: Recorder) -> None:
    recorder.record(MODEL, 1, 1, np.array([0.5]), ["1"], None)


@pytest.mark.usefixtures("capsys")  # the log goes into memory: the disk is full
def test_score2_a_disk_that_was_full_while_the_catalogue_is_away_does_not_end_recording(recorder: Recorder) -> None:
    def second_attempt() -> bool:
        record(recorder)
        return recorder._back_off > BACK_OFF[0] or not recorder._thread.is_alive()

    with full_disk(0):
        until(second_attempt)
        assert recorder._thread.is_alive()
        until(lambda: recorder.state.waiting == 0)
        until(lambda: recorder.state.dropped == recorder._next)
    record(recorder)
    until(lambda: recorder.state.spooled == 1)


def test_score2_a_fault_inside_does_not_end_recording(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []

    def fail() -> None:
        failed.append(True)
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "_tick", fail)
        until(lambda: failed)
    record(recorder)
    until(lambda: recorder.state.spooled == 1)


@pytest.mark.parametrize(("first", "rows"), [(0, 1), (7, 3), (8, 250), (99_990, 20)])
def test_score2_ids_as_a_tensor_are_the_ids(first: int, rows: int) -> None:
    made = ScoreIds("a-1", first, rows)
    assert made.texts()[-1] == f"a-1:{first + rows - 1}"
    assert binary.texts("score_id", made.to_bytes(), rows) == made.texts()


def test_score2_a_log_on_a_full_disk_stops_nothing() -> None:
    program = (
        "import structlog; from levada import logs\n"
        "logs.as_json('info'); log = structlog.get_logger()\n"
        "for _ in range(1000): log.warning('a line that does not fit')\n"
        "print('goes on')"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")
