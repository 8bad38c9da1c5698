"""Loading versions beside those that serve, and switching when all of it works.

A thread watches the configuration file: a set of versions replaces the one before as a whole once every version with a
weight is loaded and has scored a row. What cannot be loaded is reported and tried again; what serves goes on serving.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
from pydantic import ValidationError

from levada import names
from levada.artifacts import ModelManifest
from levada.errors import StoreUnavailable
from levada.serving import v2
from levada.serving.app import App, Progress, Served, Version
from levada.serving.config import GivenUp, ScorerConfig, ScorerVersion
from levada.serving.errors import ModelError
from levada.serving.lookups import Lookup, Tables
from levada.serving.metrics import VersionInfo
from levada.serving.model import ServedModel, Signature
from levada.serving.session import Session
from levada.stores.ports import ObjectNotFound, Objects

log = structlog.get_logger()

LOOK_EVERY = 0.2  # seconds between looks at the configuration file
RETRY = (0.5, 30.0)  # seconds until what failed is tried again: first, longest
# Seconds after which a scorer that may give up does so, when a store does not answer, and after which a version that
# goes on failing in a way that nobody foresaw has itself to blame.
PATIENCE = 60.0
_TOLD = 1000  # characters of one explanation: a termination message has 4096 bytes


class ConfigError(Exception):
    """A configuration that cannot be carried out; `str()` is one clear sentence."""


def read_config(path: Path) -> ScorerConfig:
    """The configuration in a file; raises ConfigError."""
    try:
        return ScorerConfig.from_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"the configuration {path} is not valid: {_first(error)}") from error


def parse_config(text: str) -> ScorerConfig:
    """The configuration in a text; raises ConfigError."""
    try:
        return ScorerConfig.from_bytes(text.encode())
    except ValidationError as error:
        raise ConfigError(f"the configuration in LEVADA_SCORER_CONFIG is not valid: {_first(error)}") from error


def load(config: ScorerVersion, objects: Callable[[], Objects], tables: Tables) -> ServedModel:
    """A version, checked and having scored a row.

    Raises ModelError where trying again cannot help, StoreUnavailable where it can.
    """
    read = _from_folder(config.folder) if config.folder else _from_objects(objects(), config.model_prefix or "")
    try:
        manifest = ModelManifest.from_bytes(read(names.MANIFEST))
    except ValidationError as error:
        raise ModelError(f"its manifest is not valid: {_first(error)}") from error
    onnx = read(manifest.onnx.key)
    digest = names.digest(onnx)
    if digest != config.onnx_digest:
        raise ModelError(f"{manifest.onnx.key} has the digest {digest}, but {config.onnx_digest} is to be served")
    session = Session(onnx)
    index = Signature(manifest).index
    lookups = [Lookup(spec, tables.get(spec), index) for spec in manifest.lookups]
    model = ServedModel(manifest, session, lookups)
    model.smoke_test()
    return model


def _from_folder(folder: Path) -> Callable[[str], bytes]:
    def read(key: str) -> bytes:
        try:
            return (folder / key).read_bytes()
        except OSError as error:
            raise ModelError(f"{folder / key} cannot be read: {error.strerror}") from error

    return read


def _from_objects(objects: Objects, prefix: str) -> Callable[[str], bytes]:
    def read(key: str) -> bytes:
        try:
            return objects.get(prefix + key)
        except ObjectNotFound as error:
            raise ModelError(f"there is no object {objects.uri(prefix + key)}") from error

    return read


class Loader:
    """Keeps an App's versions as the configuration wants them."""

    def __init__(
        self,
        app: App,
        path: Path | None,
        config: ScorerConfig,
        objects: Callable[[], Objects],
        tables: Tables,
        give_up: Callable[[GivenUp], None] | None = None,
    ) -> None:
        """`path`: the file with the configuration, None if it stays as it is.

        `config`: the configuration when the scorer started; name and namespace stay as they are there.
        `give_up`: called, from the loader's thread, when nothing is served since what has a weight cannot be loaded.
        """
        self._app = app
        self._path = path
        self._first = config
        self._objects = objects
        self._tables = tables
        self._give_up = give_up
        self._began = time.monotonic()
        self._loaded: dict[int, tuple[ScorerVersion, Version]] = {}
        self._crashing: dict[ScorerVersion, float] = {}  # since when
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> None:
        """Look at the file at once."""
        self._wake.set()

    def close(self) -> None:
        self._ending = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        seen: tuple[int, ...] | None = None
        back_off, try_at = 0.0, 0.0
        while not self._ending:
            forced = self._wake.is_set()
            self._wake.clear()
            now_seen = _state_of(self._path)
            if forced or now_seen != seen or time.monotonic() >= try_at:
                back_off = back_off if now_seen == seen else 0.0
                seen = now_seen
                done = self._apply()
                back_off = min(back_off * 2 or RETRY[0], RETRY[1])
                try_at = float("inf") if done else time.monotonic() + back_off
            self._wake.wait(LOOK_EVERY)

    def _apply(self) -> bool:
        """Bring the app up to what the file wants; whether all of it is done."""
        try:
            config = read_config(self._path) if self._path is not None else self._first
            self._check(config)
        except ConfigError as error:
            self._report({}, {}, str(error))
            self._consider_giving_up({}, str(error))
            return False
        failed: dict[int, str] = {}
        waiting: dict[int, str] = {}
        wanted: dict[int, Version] = {}
        for version in config.versions:
            try:
                wanted[version.version] = self._version(version)
            except ModelError as error:
                failed[version.version] = str(error)
            except StoreUnavailable as error:
                waiting[version.version] = str(error)
            except Exception as error:
                log.exception("a version could not be loaded", version=version.version)
                since = self._crashing.setdefault(version, time.monotonic())
                passing = isinstance(error, MemoryError | OSError) or time.monotonic() - since <= PATIENCE
                (waiting if passing else failed)[version.version] = f"{type(error).__name__}: {error}"
                continue
            self._crashing.pop(version, None)
        missing = [v.version for v in config.versions if v.version not in wanted and v.weight]
        switch = bool(wanted) and not missing
        if switch:
            self._app.serve(Served(wanted, config.recording, config.record_requests, config.limits))
        self._report(failed, waiting, "")
        if switch:
            self._forget_all_but(wanted)
        else:
            lost = {version: why[:_TOLD] for version, why in failed.items() if version in missing}
            self._consider_giving_up(lost, "; ".join(f"version {v}: {why}" for v, why in waiting.items()))
        return not failed and not waiting

    def _consider_giving_up(self, failed: dict[int, str], waits_for: str) -> None:
        """Give up where there is nothing to lose: at once if trying again cannot help, else with some patience."""
        if self._give_up is None or self._app.serving:
            return
        if failed or time.monotonic() - self._began > PATIENCE:
            self._give_up(GivenUp(failed=dict(list(failed.items())[:2]), message=waits_for[:_TOLD]))

    def _version(self, config: ScorerVersion) -> Version:
        """A version: the one that is loaded, if it is the same model, else loaded anew."""
        known, version = self._loaded.get(config.version, (None, None))
        if known is not None and version is not None and known.model_copy(update={"weight": config.weight}) == config:
            version = replace(version, info=replace(version.info, weight=config.weight))
        else:
            started = time.monotonic()
            model = load(config, self._objects, self._tables)
            seconds = round(time.monotonic() - started, 3)
            log.info("version loaded", version=config.version, candidate=config.candidate, seconds=seconds)
            version = Version(
                VersionInfo(config.version, config.candidate, config.onnx_digest, config.weight, time.time()),
                model,
                v2.Writer(model, self._first.name, config.version),
                self._app.metrics.of(config.version),
            )
        self._loaded[config.version] = (config, version)
        return version

    def _forget_all_but(self, versions: dict[int, Version]) -> None:
        self._loaded = {number: self._loaded[number] for number in versions}
        self._tables.retain(spec for version in versions.values() for spec in version.model.manifest.lookups)
        gc.freeze()  # no collection looks through models and lookups: a large one would take seconds
        log.info("serving", weights={number: version.info.weight for number, version in versions.items()})

    def _check(self, config: ScorerConfig) -> None:
        for name, value in (("name", config.name), ("namespace", config.namespace)):
            if value != getattr(self._first, name):
                raise ConfigError(f"{name} changed to '{value}'; a scorer serves one Deployment, start another one")
        if config.recording and not self._app.can_record:
            raise ConfigError("recording is wanted, but LEVADA_POSTGRES_DSN is not set: set it, or recording to false")

    def _report(self, failed: dict[int, str], waiting: dict[int, str], message: str) -> None:
        problems = {f"version {v}": why for v, why in (failed | waiting).items()} | (
            {"file": message} if message else {}
        )
        if problems:
            self._app.metrics.reloads_failed += 1
        before = self._app.progress
        if problems and (before.failed, before.waiting, before.message) != (failed, waiting, message):
            log.warning("not all that is wanted can be served", **problems)
        self._app.progress = Progress(self._app.serving, failed, waiting, message)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"])) or "it"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"


def _state_of(path: Path | None) -> tuple[int, ...] | None:
    """What changes when a file is replaced or rewritten; None if there is none."""
    if path is None:
        return ()
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
