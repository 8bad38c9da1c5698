"""From a request to a response: routes, errors, and what happens to a score on its way out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
import structlog

import levada
from levada.serving import metrics as prometheus
from levada.serving import v1, v2
from levada.serving.config import Limits
from levada.serving.errors import RequestError, cut
from levada.serving.http import Request, Response, error
from levada.serving.metrics import Exposition, Metrics, VersionCounters, VersionInfo
from levada.serving.model import Scores, ServedModel, Values
from levada.serving.recorder import Recorder, ScoreIds

log = structlog.get_logger()

Route = Callable[[Request], Response]


@dataclass(frozen=True)
class Version:
    """A version that is served."""

    info: VersionInfo
    model: ServedModel
    writer: v2.Writer
    counters: VersionCounters


@dataclass(frozen=True)
class Served:
    """A set of versions: replaced as a whole, never changed."""

    versions: dict[int, Version]
    recording: bool
    record_requests: bool
    limits: Limits


@dataclass(frozen=True)
class Progress:
    """How loading stands: what is wrong with versions that cannot be served, and what others wait for."""

    ready: bool
    failed: dict[int, str]
    waiting: dict[int, str]
    message: str = ""  # of the configuration as a whole


class App:
    """Answers requests for the model `name`; `handle` is safe to call from several threads."""

    def __init__(self, name: str, namespace: str, recorder: Recorder | None) -> None:
        self.metrics = Metrics(name, namespace)
        self.progress = Progress(ready=False, failed={}, waiting={})
        self.draining = False
        self._name = name
        self._recorder = recorder
        self._served: Served | None = None
        self._exposition = Exposition(self.metrics, self._infos, recorder.state if recorder else None)
        self._routes: dict[bytes, Route] = self._fixed_routes()

    @property
    def can_record(self) -> bool:
        """Whether there is a catalogue to record scores in."""
        return self._recorder is not None

    @property
    def serving(self) -> bool:
        """Whether there is a set of versions."""
        return self._served is not None

    def serve(self, served: Served) -> None:
        """Serve another set of versions from now on; requests under way end with theirs."""
        v2_path, v1_path = f"/v2/models/{self._name}", f"/v1/models/{self._name}"
        choose = _chooser(list(served.versions.values()))
        routes = self._fixed_routes() | self._model_routes(v2_path, v1_path, choose, served)
        for number, version in served.versions.items():
            below = f"/versions/{number}"
            routes[(v1_path + below).encode()] = _get(partial(_json, v1.status(number)))
            routes |= self._model_routes(v2_path + below, v1_path + below, _always(version), served)
        self._served, self._routes = served, routes

    def handle(self, request: Request) -> Response:
        """The answer to a request; whatever happens, there is one."""
        route = self._routes.get(request.target)
        try:
            return route(request) if route is not None else self._find_route(request)(request)
        except RequestError as problem:
            self.metrics.refused[problem.status] += 1
            return error(problem.status, problem.message)
        except Exception:
            self.metrics.refused[500] += 1
            return _failed(request)

    # --- routes ----------------------------------------------------------------------------------------------------

    def _fixed_routes(self) -> dict[bytes, Route]:
        model = f"/v2/models/{self._name}"
        server = {"name": "levada", "version": levada.__version__, "extensions": ["binary_tensor_data"]}
        return {
            b"/": _get(lambda: _json({"status": "alive"})),
            b"/v2": _get(lambda: _json(server)),
            b"/v2/health/live": _get(lambda: _json({"live": True})),
            b"/v2/health/ready": _get(self._ready),
            b"/v2/models": _get(lambda: _json({"models": [self._name]})),
            f"{model}/ready".encode(): _get(lambda: self._ready(name=self._name)),
            b"/v1/models": _get(lambda: _json({"models": [self._name]})),
            f"/v1/models/{self._name}".encode(): _get(lambda: self._ready(name=self._name)),
            b"/metrics": _get(lambda: Response(200, self._exposition.render(), prometheus.CONTENT_TYPE)),
            b"/levada/versions": _get(self._progress),
        }

    def _model_routes(
        self, v2_path: str, v1_path: str, choose: Callable[[], Version], served: Served
    ) -> dict[bytes, Route]:
        def describe() -> Response:
            recorded = self._recorder is not None and served.recording
            return _json(v2.metadata(choose().model, self._name, sorted(served.versions), recorded))

        return {
            v2_path.encode(): _get(describe),
            f"{v2_path}/ready".encode(): _get(lambda: self._ready(name=self._name)),
            f"{v2_path}/infer".encode(): self._counted("v2", choose, served, self._infer),
            f"{v1_path}:predict".encode(): self._counted("v1", choose, served, self._predict),
        }

    def _find_route(self, request: Request) -> Route:
        """The route of a target that is written in another way, or what is wrong with it."""
        path = unquote_to_bytes(request.target.partition(b"?")[0])
        if path in self._routes:
            return self._routes[path]
        return self._explain(path.decode(errors="replace"))

    def _explain(self, path: str) -> Route:
        parts = path.strip("/").replace(":predict", "/:predict").split("/")
        if len(parts) > 2 and parts[0] in ("v1", "v2") and parts[1] == "models":
            if parts[2] != self._name:
                raise RequestError(404, f"there is no model {cut(parts[2])!r}; this scorer serves '{self._name}'")
            if self._served is None:
                raise RequestError(503, f"no version of '{self._name}' is loaded yet; {self._why()}try again later")
            if len(parts) > 4 and parts[3] == "versions" and parts[4] not in map(str, self._served.versions):
                for number, why in self._problems().items():
                    if parts[4] == str(number):
                        raise RequestError(503, f"version {number} cannot be served yet: {why}; try again later")
                there = ", ".join(map(str, sorted(self._served.versions)))
                raise RequestError(404, f"'{self._name}' has no version {cut(parts[4])!r}; there is: {there}")
        model = f"/v2/models/{self._name}"
        raise RequestError(404, f"there is nothing at {cut(path)!r}; try GET {model} or POST {model}/infer")

    def _why(self) -> str:
        problems = [f"version {v}: {text}" for v, text in self._problems().items()]
        return "; ".join([*problems, *([self.progress.message] if self.progress.message else []), ""])

    def _problems(self) -> dict[int, str]:
        """Versions that are configured and not served, and why."""
        progress = self.progress
        return progress.failed | progress.waiting

    # --- answers ---------------------------------------------------------------------------------------------------

    def _ready(self, **fields: str) -> Response:
        ready = self.progress.ready and not self.draining
        return _json({**fields, "ready": ready}, 200 if ready else 503)

    def _progress(self) -> Response:
        served = self._served
        return _json(
            {
                "ready": sorted(served.versions) if served else [],
                "weights": {str(v): version.info.weight for v, version in served.versions.items()} if served else {},
                "failed": {str(version): why for version, why in self.progress.failed.items()},
                "waiting": {str(version): why for version, why in self.progress.waiting.items()},
                "message": self.progress.message,
            }
        )

    def _counted(
        self,
        protocol: str,
        choose: Callable[[], Version],
        served: Served,
        answer: Callable[[Request, Version, Served], tuple[int, Response]],
    ) -> Route:
        """A route that scores, with its requests, rows and times counted for the version."""

        def route(request: Request) -> Response:
            started = time.perf_counter()
            if request.method != b"POST":
                raise RequestError(405, f"{request.method.decode()} is not allowed here; send a POST")
            version = choose()
            try:
                rows, response = answer(request, version, served)
            except RequestError as problem:
                rows, response = 0, error(problem.status, problem.message)
            except Exception:
                rows, response = 0, _failed(request)
            version.counters.add(protocol, response.status, rows, time.perf_counter() - started)
            return response

        return route

    def _infer(self, request: Request, version: Version, served: Served) -> tuple[int, Response]:
        """Open Inference Protocol v2."""
        asked = v2.read(_body(request), _json_length(request), version.model.signature, served.limits.rows)
        if asked.outputs is not None:
            version.writer.check(asked.outputs, self._recorder is not None and served.recording)
        scores, ids = self._score(version, served, asked.columns, asked.rows, asked.single)
        body, json_length = version.writer.write(asked, scores, ids)
        if json_length is None:
            return asked.rows, Response(200, body)
        headers = ((b"inference-header-content-length", b"%d" % json_length),)
        return asked.rows, Response(200, body, b"application/octet-stream", headers)

    def _predict(self, request: Request, version: Version, served: Served) -> tuple[int, Response]:
        """KServe's v1."""
        if b"inference-header-content-length" in request.headers:
            raise RequestError(
                400, "v1 takes no binary tensors; leave out Inference-Header-Content-Length, or send them over v2"
            )
        rows, columns = v1.read(_body(request), version.model.signature, served.limits.rows)
        scores, ids = self._score(version, served, columns, rows, rows == 1)
        return rows, Response(200, v1.write(version.model, version.info.version, scores, ids))

    def _score(
        self, version: Version, served: Served, columns: list[Values], rows: int, single: bool
    ) -> tuple[Scores, ScoreIds | None]:
        """Scores and, where they are recorded, their ids. `single`: one row of JSON values."""
        model, number = version.model, version.info.version
        recorder = self._recorder if served.recording else None
        if single:
            values = [None if column is None else column[0] for column in columns]
            scores = model.score_one(values)
            if recorder is None:
                return scores, None
            kept = values if served.record_requests else None
            return scores, recorder.record_one(model, number, model.values(scores), model.labels(scores), kept)
        scores = model.score(columns, rows)
        if recorder is None:
            return scores, None
        kept_columns = columns if served.record_requests else None
        return scores, recorder.record(model, number, rows, model.values(scores), model.labels(scores), kept_columns)

    def _infos(self) -> list[VersionInfo]:
        return [version.info for version in self._served.versions.values()] if self._served else []


def _body(request: Request) -> bytes:
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise RequestError(
            415,
            f"the Content-Encoding {cut(encoding.decode(errors='replace'))!r} is not supported; send the body as it is",
        )
    return request.body


def _json_length(request: Request) -> int | None:
    text = request.headers.get(b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise RequestError(400, "Inference-Header-Content-Length is not a number; give the length of the JSON in bytes")
    return int(text)


def _failed(request: Request) -> Response:
    """The answer where the fault is the scorer's own."""
    log.exception("a request failed inside the scorer", target=request.target.decode(errors="replace"))
    return error(500, "the scorer failed inside; its log tells more")


def _json(document: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(document))


def _get(answer: Callable[[], Response]) -> Route:
    def route(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            raise RequestError(405, f"{request.method.decode()} is not allowed here; send a GET")
        return answer()

    return route


def _always(version: Version) -> Callable[[], Version]:
    return lambda: version


def _chooser(versions: list[Version]) -> Callable[[], Version]:
    """What picks a version by weight for a request that names none."""
    weighted = [version for version in versions if version.info.weight]
    if not weighted:

        def refuse() -> Version:
            numbers = ", ".join(str(version.info.version) for version in versions)
            raise RequestError(503, f"no version serves requests that name none yet; name one of: {numbers}")

        return refuse
    if len(weighted) == 1:
        return _always(weighted[0])
    bounds = list(accumulate(version.info.weight for version in weighted))
    return lambda: random.choices(weighted, cum_weights=bounds)[0]
