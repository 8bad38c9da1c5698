"""`make demo`: the flights example from raw files to a served, traceable score.

With a terminal it goes on serving until Ctrl-C; without one it ends when everything has been shown.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import data
from rich.console import Console
from rich.table import Table

from levada.engines.local.display import LiveDisplay, PlainDisplay, overview, rows_of
from levada.engines.local.engine import LocalEngine, succeeded
from levada.engines.local.home import Home
from levada.engines.local.lineage import as_tree
from levada.engines.local.session import report_path, run_session
from levada.engines.local.stores import Stores
from levada.errors import LevadaError
from levada.resources import Deployment, ModelCandidate
from levada.resources.manifests import load
from levada.stores.ports import Catalogue, LineageNode

EXAMPLE = Path(__file__).parent / "flights"
HOME = Path(".levada/flights")
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def sample_request(columns: list[str]) -> dict[str, Any]:
    """A flight of the last month, with the columns that the model asks for."""
    with gzip.open(EXAMPLE / "data" / "flights" / "flights-2013-12.csv.gz", "rt", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    return {name: int(row[name]) if row[name].isdigit() else row[name] for name in columns}


def fetch(url: str, body: bytes | None = None) -> dict[str, Any]:
    """The JSON answer of a GET, or of a POST with a body."""
    with urllib.request.urlopen(url, body, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def show_candidates(engine: LocalEngine) -> None:
    """The metrics of the candidates, side by side, and where their reports lie."""
    candidates = [r.resource for r in engine.records.values() if isinstance(r.resource, ModelCandidate)]
    measured = [c for c in candidates if c.status.evaluation is not None]
    names = sorted({name for c in measured for name in (c.status.evaluation.metrics if c.status.evaluation else {})})
    grid = Table(box=None, pad_edge=False)
    grid.add_column("METRIC")
    for candidate in measured:
        grid.add_column(candidate.metadata.name, justify="right")
    for name in names:
        values = [c.status.evaluation.metrics.get(name) if c.status.evaluation else None for c in measured]
        grid.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    out.print(grid)
    for candidate in measured:
        if report := report_path(Home(HOME), candidate):
            out.print(f"Evaluation report: {report.relative_to(Path.cwd())}")


def wait_for_lineage(catalogue: Catalogue, score: str) -> list[LineageNode]:
    """The history of a score: scores are recorded a moment after they were answered."""
    for _ in range(300):
        if nodes := catalogue.lineage(score):
            return nodes
        time.sleep(0.1)
    raise SystemExit(f"the score {score} was not recorded within 30 s")


async def show_score(deployment: Deployment, stores: Stores) -> None:
    """Ask the served model for a score, and trace that score back to the raw batches."""
    url = deployment.status.url
    assert url is not None
    columns = [column["name"] for column in (await asyncio.to_thread(fetch, url))["inputs"]]
    address = url.replace("/v2/", "/v1/") + ":predict"
    body = json.dumps({"instances": [sample_request(columns)]})
    out.print(f"\n[bold]A score[/]\n$ curl -s {address} -d '{body}'", markup=True)
    answer = await asyncio.to_thread(fetch, address, body.encode())
    out.print(json.dumps(answer), markup=False)
    score = answer["score_ids"][0]
    catalogue = await stores.catalogue()
    nodes = await asyncio.to_thread(wait_for_lineage, catalogue, score)
    out.print(f"\n[bold]Where it comes from[/]\n$ levada lineage {score} --home {HOME}")
    out.print(as_tree(nodes))


def main() -> int:
    """Run the example; 0 if everything is ready or complete, 130 if it was interrupted before all was shown."""
    data.main(["flights"])
    resources, problems = load([str(EXAMPLE)], "default")
    for problem in problems:
        out.print(str(problem), markup=False)
    if problems:
        return 2
    terminal = out.is_terminal and sys.stdin.isatty()
    error_console = Console(stderr=True)
    display = LiveDisplay(error_console) if terminal else PlainDisplay(error_console)
    shown = ended = False

    async def settled(engine: LocalEngine, stores: Stores) -> bool:
        nonlocal shown, ended
        if not shown:
            shown = True
            out.print("\n[bold]Resources[/]")
            out.print(overview(rows_of(engine)))
            out.print("\n[bold]Candidates[/]")
            show_candidates(engine)
            for record in engine.records.values():
                if isinstance(record.resource, Deployment) and record.resource.status.url:
                    await show_score(record.resource, stores)
            if terminal:
                out.print("\nServing until Ctrl-C.")
            ended = True
        return terminal

    try:
        world = run_session(HOME, resources, display, serve=True, settled=settled)
    except KeyboardInterrupt:
        if ended:
            return 0
        error_console.print("ended; run again to go on from here")
        return 130
    except LevadaError as error:
        error_console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    return 0 if all(succeeded(resource) for resource in world.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
