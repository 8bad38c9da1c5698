"""What the process of a scorer does: `python -m levada.serving --config FILE --host 127.0.0.1 --port 8080`.

This is the composition root of a scorer: it opens the stores that settings.py names, serves until SIGTERM or SIGINT,
and then ends what is under way and records what is left. SIGHUP: look at the configuration now. Exit codes: 0 ended as
told, 2 the configuration or the address is wrong, 3 given up (with --give-up only).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import structlog
import uvloop

from levada import logs
from levada.serving.app import App
from levada.serving.config import GivenUp, ScorerConfig
from levada.serving.lookups import Tables
from levada.serving.recorder import Recorder
from levada.serving.server import Server
from levada.serving.spool import Spool
from levada.serving.versions import ConfigError, Loader, parse_config, read_config
from levada.settings import Settings
from levada.stores.open import open_catalogue, open_objects, open_online

log = structlog.get_logger()

SPOOL_BYTES = 1024 * 1024 * 1024
EXIT_GIVEN_UP = 3
STOP_SECONDS = 30.0  # how long requests under way may take to end
SWITCH_SECONDS = 0.001  # how long a thread may keep another from running


def main() -> int:
    """Serve; the exit code."""
    parser = argparse.ArgumentParser(prog="levada.serving", description="Serve the versions of a Deployment.")
    parser.add_argument("--config", type=Path, help="the configuration, which is watched; else LEVADA_SCORER_CONFIG")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (0: any)")
    parser.add_argument(
        "--give-up", action="store_true", help="end when nothing can be served, and leave a termination message"
    )
    arguments = parser.parse_args()
    settings = Settings()
    logs.as_json(settings.log_level)
    # Recording and loading run beside the event loop: let them give way sooner than Python's 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        config = _config(arguments.config, settings)
        recorder = _recorder(settings, config)
    except (ConfigError, OSError) as error:
        print(f"levada.serving: {error}", file=sys.stderr)
        return 2
    return uvloop.run(_serve(arguments, settings, config, recorder))


async def _serve(
    arguments: argparse.Namespace, settings: Settings, config: ScorerConfig, recorder: Recorder | None
) -> int:
    loop = asyncio.get_running_loop()
    app = App(config.name, config.namespace, recorder)
    server = Server(app.handle, config.limits.body_bytes, config.limits.json_bytes)
    objects = cache(lambda: open_objects(settings))
    tables = Tables(objects, lambda: open_online(settings), app.metrics.rows_left_out)
    ended = asyncio.Event()
    exit_code = 0

    def give_up(why: GivenUp) -> None:
        nonlocal exit_code
        exit_code = EXIT_GIVEN_UP
        with suppress(OSError):
            settings.termination_log.write_bytes(why.to_bytes())
        loop.call_soon_threadsafe(ended.set)

    loader = Loader(app, arguments.config, config, objects, tables, give_up if arguments.give_up else None)
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, ended.set)
    loop.add_signal_handler(signal.SIGHUP, loader.look_now)
    try:
        port = await server.start(arguments.host, arguments.port)
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror
        print(f"levada.serving: cannot listen at {arguments.host}:{arguments.port}: {why}", file=sys.stderr)
        return 2
    log.info("listening", host=arguments.host, port=port, deployment=config.name, namespace=config.namespace)
    loader.start()
    if recorder is not None:
        recorder.start()
    await ended.wait()
    log.info("ending")
    app.draining = True
    server.say_goodbye()
    if exit_code == 0:
        await asyncio.sleep(config.drain_seconds)
    await server.stop(STOP_SECONDS)
    loader.close()
    if recorder is not None:
        await asyncio.to_thread(recorder.close)
    log.info("ended")
    return exit_code


def _config(path: Path | None, settings: Settings) -> ScorerConfig:
    if path is not None:
        return read_config(path)
    if not settings.scorer_config:
        raise ConfigError("there is no configuration: name its file with --config, or set LEVADA_SCORER_CONFIG")
    return parse_config(settings.scorer_config)


def _recorder(settings: Settings, config: ScorerConfig) -> Recorder | None:
    if not settings.postgres_dsn.get_secret_value():
        if config.recording:
            raise ConfigError("recording is wanted, but LEVADA_POSTGRES_DSN is not set: set it, or recording to false")
        return None
    source = f"scorer-{uuid.uuid4().hex[:16]}"
    folder = (settings.scratch or Path(tempfile.gettempdir())) / "levada-scores" / f"{config.namespace}.{config.name}"
    spool = Spool(folder, source, SPOOL_BYTES)
    return Recorder(open_catalogue(settings), spool, source, config.namespace, config.name)
