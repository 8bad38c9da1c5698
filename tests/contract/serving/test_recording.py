"""No score that was answered is lost or recorded twice, whatever happens to the catalogue or to the scorer."""

from __future__ import annotations

import http.client
import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from levada.serving.recorder import Recorder
from levada.serving.spool import Spool
from levada.settings import Settings
from levada.stores.open import open_catalogue
from levada.stores.ports import Objects
from tests.contract.serving.conftest import Scores
from tests.contract.serving.scorers import Proxy, Scorer, config, ids, proxy, version, write
from tests.support.waiting import until
from tests.unit.serving import small
from tests.unit.serving.small import ROW


@pytest.fixture
def between(environment: dict[str, str]) -> Iterator[Proxy]:
    """A proxy before the catalogue, which `environment` then names."""
    dsn = urlsplit(environment["LEVADA_POSTGRES_DSN"])
    with proxy(dsn.hostname or "", dsn.port or 0) as opened:
        host = dsn.netloc.rpartition("@")[0] + f"@127.0.0.1:{opened.port}"
        environment["LEVADA_POSTGRES_DSN"] = dsn._replace(netloc=host).geturl()
        yield opened


class Clients:
    """Clients that go on asking; what they were answered, and what went wrong."""

    def __init__(self, scorer: Scorer, count: int) -> None:
        self.given: list[str] = []
        self.cut_off: list[Exception] = []
        self.failed: list[Exception] = []
        self._scorer = scorer
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        with closing(self._scorer.connect()) as connection:
            for rows in itertools.cycle((1, 3)):  # scores are recorded as rows and as blocks
                if self._ended.is_set():
                    return
                try:
                    self.given += ids(self._scorer.infer(*[ROW] * rows, connection=connection))
                except (OSError, http.client.HTTPException) as error:
                    self.cut_off.append(error)
                    return
                except Exception as error:
                    self.failed.append(error)
                    return

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def asking(scorer: Scorer, count: int = 4) -> Iterator[Clients]:
    clients = Clients(scorer, count)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()


def test_x5_a_scorer_that_is_told_to_end_loses_no_score_that_it_answered(
    objects: Objects, environment: dict[str, str], path: Path, scores: Scores
) -> None:
    write(path, config(version(objects, 1)))
    with Scorer(path, environment) as scorer, asking(scorer.ready()) as clients:
        until(lambda: len(clients.given) > 200, scorer.process)
        assert scorer.end() == 0
        clients.stop()
        assert not clients.failed
    assert scores.ids() == set(clients.given)
    assert not list(path.parent.rglob("*.scores"))


def test_x5_while_the_catalogue_is_away_requests_are_answered_and_nothing_is_lost(
    objects: Objects, environment: dict[str, str], path: Path, scores: Scores, between: Proxy
) -> None:
    write(path, config(version(objects, 1)))
    with Scorer(path, environment) as scorer, asking(scorer.ready()) as clients:
        until(lambda: scorer.metric("scores_recorded_total") > 0, scorer.process)
        between.cut()
        until(lambda: scorer.metric("scores_spooled") > 100, scorer.process)
        assert scorer.metric("catalogue_away") == 1
        assert list(path.parent.rglob("*.scores"))
        between.mend()
        until(lambda: scorer.metric("catalogue_away") == 0, scorer.process)
        clients.stop()
        assert not clients.failed + clients.cut_off
        until(lambda: scorer.metric("scores_spooled") + scorer.metric("scores_waiting") == 0, scorer.process)
        until(lambda: scorer.metric("scores_recorded_total") == len(clients.given), scorer.process)
        assert scorer.metric("scores_dropped_total") == 0
        assert len(clients.given) == len(set(clients.given))
        assert scores.ids() == set(clients.given)
        assert not list(path.parent.rglob("*.scores"))


def test_x5_a_catalogue_that_hangs_keeps_no_one_waiting_and_an_ending_scorer_spools(
    objects: Objects,
    environment: dict[str, str],
    path: Path,
    scores: Scores,
    between: Proxy,
) -> None:
    write(path, config(version(objects, 1)))
    with Scorer(path, environment) as scorer:
        given = ids(scorer.ready().infer(ROW))
        until(lambda: scorer.metric("scores_recorded_total") == 1, scorer.process)
        between.swallow()
        for _ in range(20):
            given += ids(scorer.infer(ROW)) + ids(scorer.infer(ROW, ROW))
        assert scorer.end() == 0
    assert list(path.parent.rglob("*.scores"))
    between.mend()
    with Scorer(path, environment) as again:
        until(lambda: scores.ids() == set(given), again.process)


def test_x5_scores_that_a_killed_scorer_had_spooled_are_recorded_by_the_next(
    objects: Objects, environment: dict[str, str], path: Path, scores: Scores, between: Proxy
) -> None:
    write(path, config(version(objects, 1)))
    between.cut()
    with Scorer(path, environment) as scorer:
        scorer.ready()
        given = [number for _ in range(20) for number in ids(scorer.infer(ROW))]
        until(lambda: scorer.metric("scores_spooled") == 20, scorer.process)
        scorer.process.send_signal(signal.SIGKILL)
        scorer.process.wait()
    between.mend()
    with Scorer(path, environment) as again:
        given += ids(again.ready().infer(ROW))
        until(lambda: scores.ids() == set(given), again.process)
        until(lambda: not list(path.parent.rglob("*.scores")), again.process)
        assert len(scores.rows()) == len(given)


def test_x5_a_score_that_the_catalogue_refuses_keeps_no_other_from_being_recorded(
    settings: Settings, scores: Scores, tmp_path: Path
) -> None:
    """Text with a zero byte, which PostgreSQL does not keep."""
    model = small.served()
    with closing(open_catalogue(settings)) as catalogue:
        recorder = Recorder(catalogue, Spool(tmp_path, "a", 10**6), "a", "default", "small")
        recorder.record(model, 1, 5, np.full(5, 0.5), ["1", "2", "\0", "4", "5"], None)
        recorder.start()
        recorder.close()
    assert [row["label"] for row in scores.rows()] == ["1", "2", "4", "5"]
    assert (recorder.state.recorded, recorder.state.dropped, recorder.state.spooled) == (4, 1, 0)
