"""The command line: `levada run`, `get`, `lineage`, `audit`, `validate`, `delete`; `upload`, `operator`, `check`."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import structlog
import typer
import yaml
from rich.console import Console
from typer.core import TyperGroup

from levada import __version__, ending
from levada.errors import LevadaError
from levada.names import PLURALS, SHORT_NAMES, Kind
from levada.resources import AnyResource, Ref
from levada.resources.manifests import Loaded, Problem, load_all


class _Commands(TyperGroup):
    """The commands; what Levada or the operating system has to say of an error is one sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        ending.by_interrupt()
        try:
            return super().invoke(ctx)
        except LevadaError as error:
            raise _fail(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has seen enough: typer ends then
                raise
            why = error.strerror or str(error)
            raise _fail(f"{error.filename}: {why}" if error.filename else why) from error


app = typer.Typer(
    cls=_Commands,
    help="Machine-learning pipelines from YAML manifests, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_FAILED, EXIT_INVALID, EXIT_INTERRUPTED = 1, 2, 130

# Where there is no terminal, lines are as long as they are: somebody greps them.
out = Console(width=None if sys.stdout.isatty() else 10_000)
err = Console(stderr=True)


class Engine(StrEnum):
    LOCAL = "local"
    KUBERNETES = "kubernetes"


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Files = Annotated[
    list[str], typer.Option("--filename", "-f", help="Manifest, or folder of manifests; - is standard input.")
]
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="LEVADA_HOME", help="Folder that holds all state.", file_okay=False)
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace where a manifest or you name none.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
DEFAULT_HOME = Path(".levada")


@app.command()
def run(
    filename: Files,
    home: HomeOption = DEFAULT_HOME,
    serve: Annotated[bool, typer.Option("--serve", help="Keep serving Deployments until Ctrl-C.")] = False,
    namespace: Namespace = "default",
    output: OutputOption = Output.TABLE,
) -> None:
    """Carry out manifests on this machine, without a cluster.

    Progress goes to stderr, the resources with their status to stdout. Exit code 0: all that the manifests name is
    ready, complete, or held up as they want it (suspended, or waiting for approval); 1: something failed or waits for
    what is not there; 2: a manifest is invalid (nothing was started); 130: interrupted in the middle of work.
    """
    ending.at_once()
    from levada.engines.local.display import LiveDisplay, PlainDisplay, pipeline_order, summary
    from levada.engines.local.engine import LocalEngine
    from levada.engines.local.home import Home, Unchangeable
    from levada.engines.local.outcome import amiss, at_work, with_owned
    from levada.engines.local.session import run_session
    from levada.engines.local.stores import Stores

    resources = _load(filename, namespace)
    ending.by_interrupt()
    display = LiveDisplay(err) if err.is_terminal else PlainDisplay(err)
    served: dict[Ref, str] = {}
    idle = interrupted = False  # idle: whether there was a time when nothing was left to do

    async def settled(engine: LocalEngine, stores: Stores) -> bool:
        nonlocal idle
        idle = True
        for ref, record in engine.records.items():
            url = getattr(record.resource.status, "url", None)
            if serve and url and served.get(ref) != url:
                served[ref] = url
                err.print(f"{ref} serves at {url}", highlight=False, soft_wrap=True)
        return serve

    try:
        run_session(home, resources, display, serve=serve, settled=settled)
    except Unchangeable as error:
        raise _fail(str(error), EXIT_INVALID) from error
    except KeyboardInterrupt:
        interrupted = True
    records = {record.resource.ref: record for record in Home(home).all()}
    world = {ref: records[ref].resource for ref in sorted(records, key=pipeline_order)}
    if interrupted and (not idle or at_work(world.values())):
        err.print("ended; run again to go on from here")
        raise typer.Exit(EXIT_INTERRUPTED)
    named = {resource.ref for resource in resources}
    mine = with_owned(named, records)
    if output == Output.TABLE:
        _print([resource for ref, resource in world.items() if ref in mine], output)
        if earlier := [resource for ref, resource in world.items() if ref not in mine]:
            out.print("\nApplied earlier:")
            _print(earlier, output)
    else:
        _print(list(world.values()), output)
    bad = amiss(world)
    for ref in sorted(named & bad, key=pipeline_order):
        state, message = summary(world[ref])
        err.print(f"{ref} is {state}: {message}", markup=False, highlight=False, soft_wrap=True)
    if others := ", ".join(f"{ref} is {summary(world[ref])[0]}" for ref in sorted(bad - mine, key=pipeline_order)):
        err.print(f"applied earlier, so not counted here: {others}", markup=False, highlight=False, soft_wrap=True)
    if named & bad:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def get(
    kind: Annotated[str, typer.Argument(help="Kind, plural or short name, or `all`.")],
    name: Annotated[str | None, typer.Argument(help="Name of one resource.")] = None,
    home: HomeOption = DEFAULT_HOME,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace; all of them, or `default` with a name.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show resources with their status."""
    from levada.engines.local.access import home_of
    from levada.engines.local.columns import kind_table
    from levada.engines.local.display import warnings

    kinds = list(Kind) if kind.lower() in ("all", "levada") else [_kind(kind)]
    if name is not None and namespace is None:
        namespace = "default"
    found = [
        record.resource
        for record in home_of(home).all()
        if record.resource.kind in kinds
        and name in (None, record.resource.metadata.name)
        and namespace in (None, record.resource.metadata.namespace)
    ]
    if name is not None and not found:
        raise _fail(f"there is no {kind} '{name}' in namespace '{namespace}' of the home {home}")
    if output != Output.TABLE:
        _print(found, output, single=name is not None and len(found) == 1)
        return
    if not found:
        where = f"namespace '{namespace}' of the home" if namespace else "the home"
        err.print(f"there is no {'resource' if len(kinds) > 1 else kinds[0].value} in {where} {home}", highlight=False)
    namespaces = len({resource.metadata.namespace for resource in found}) > 1
    for shown in kinds:
        if mine := [resource for resource in found if resource.kind == shown]:
            if len(kinds) > 1:
                out.print(f"{shown.value}:")
            out.print(kind_table(shown, mine, namespaces=namespaces))
    for line in warnings((resource.ref, resource.status.warnings) for resource in found):
        out.print(line)


@app.command()
def validate(
    filename: Files,
    home: Annotated[
        Path | None, typer.Option("--home", help="Also compare with the resources of this home.", file_okay=False)
    ] = None,
    engine: Annotated[Engine, typer.Option("--for", help="Where they are to run.")] = Engine.LOCAL,
    namespace: Namespace = "default",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check manifests without running anything: fields, queries, expressions, names of strategies, cycles.

    What one engine carries out the other may refuse: --for kubernetes checks as a cluster would. With a home, also that
    nothing changes that may not. A reference to what is in none of the manifests is told, and may be right. Exit code
    0: all are valid; 2: one is not.
    """
    from levada.planners import absences, refusals
    from levada.resources.uris import below

    local = engine is Engine.LOCAL
    # A cluster takes what is relative from its object store, wherever that is.
    read = _read(filename, namespace, None if local else lambda uri, _: below("s3://sources", uri))
    refused = refusals(read.resources, datetime.now(UTC), local=local)
    # What has a mistake in it is there as well; it has been told.
    elsewhere = {
        Ref(kind, resource.ref.namespace, problem.resource.partition(" ")[2])
        for problem in read.problems
        for resource in read.resources
        for kind in Kind
        if problem.resource.startswith(f"{kind.value} ")
    }
    if home is not None:
        refused = _unchangeable(home, read.resources) | refused
        elsewhere |= _kept(home)
    for line in [*(f"{ref}: {why}" for ref, why in refused.items()), *absences(read.resources, elsewhere)]:
        err.print(line, markup=False, highlight=False, soft_wrap=True)
    if output != Output.TABLE:
        checked = [(resource.ref, refused.get(resource.ref)) for resource in read.resources]
        entries = [{**_named(ref), "valid": why is None, "message": why or ""} for ref, why in checked]
        _print_data(entries + [_entry(problem) for problem in read.problems], output)
    if refused or read.problems or not read.resources:
        raise typer.Exit(EXIT_INVALID)
    if output == Output.TABLE:
        count = len(read.resources)
        out.print(f"{count} resource{' is' if count == 1 else 's are'} valid", highlight=False)


@app.command()
def lineage(
    id: Annotated[str, typer.Argument(help="Id of a score, candidate, evaluation, split, feature version or batch.")],
    home: HomeOption = DEFAULT_HOME,
    output: OutputOption = Output.TABLE,
) -> None:
    """Trace something back to the raw data that it came from."""
    from levada.engines.local.access import catalogue_of
    from levada.engines.local.lineage import as_data, as_tree

    with catalogue_of(home) as catalogue:
        nodes = catalogue.lineage(id)
    if not nodes:
        raise _fail(f"nothing in the home {home} has the id '{id}'")
    if output == Output.TABLE:
        out.print(as_tree(nodes))
    else:
        _print_data([as_data(node) for node in nodes], output)


@app.command()
def audit(
    kind: Annotated[str | None, typer.Argument(help="Kind, plural or short name.")] = None,
    name: Annotated[str | None, typer.Argument(help="Name of the resource.")] = None,
    home: HomeOption = DEFAULT_HOME,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of the resource; `default` if you name none.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="How many of the newest decisions.")] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what was decided, when and why."""
    from levada.engines.local.access import catalogue_of
    from levada.engines.local.lineage import audit_table

    if (kind is None) != (name is None):
        raise _fail("name a resource by kind and name, or give neither")
    if namespace is not None and name is None:
        raise _fail(f"-n {namespace} says where one resource is: name it by kind and name, or leave -n out for all")
    ref = Ref(_kind(kind), namespace or "default", name) if kind is not None and name is not None else None
    with catalogue_of(home) as catalogue:
        decisions = catalogue.audit(ref, limit)
    if output == Output.TABLE:
        out.print(audit_table(decisions))
    else:
        _print_data(decisions, output)


@app.command()
def delete(
    kind: Annotated[str | None, typer.Argument(help="Kind, plural or short name.")] = None,
    name: Annotated[str | None, typer.Argument(help="Name of the resource.")] = None,
    filename: Annotated[list[str] | None, typer.Option("--filename", "-f", help="Manifest or folder.")] = None,
    home: HomeOption = DEFAULT_HOME,
    namespace: Namespace = "default",
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Keep batches, models and scores.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete resources, what they own, and the data that they made.

    What manifests name and the home does not hold is passed over, so that an interrupted deletion can be done again.
    """
    from levada.engines.local.access import delete as delete_from

    if filename and kind is None:
        refs = [resource.ref for resource in _load(filename, namespace)]
    elif kind is not None and name is not None and not filename:
        refs = [Ref(_kind(kind), namespace, name)]
    else:
        raise _fail("say what to delete: a kind and a name, or manifests with -f")
    deleted = delete_from(home, refs, keep_data=keep_data, may_be_absent=bool(filename))
    if output == Output.TABLE:
        for ref in deleted.refs:
            out.print(f"deleted {ref}", highlight=False)
    else:
        _print_data([_named(ref) for ref in deleted.refs], output)
    for ref in deleted.absent:
        err.print(f"passed over: there is no {ref} in the home {home}", highlight=False, soft_wrap=True)
    for ref, other in deleted.waiting:
        err.print(f"{ref} refers to {other}, which is gone now", highlight=False, soft_wrap=True)


@app.command()
def upload(
    filename: Annotated[list[str], typer.Option("--filename", "-f", help="Manifest or folder.")],
    namespace: Namespace = "default",
) -> None:
    """Put the files that manifests name by relative URIs (./data/) where a cluster's operator looks for them.

    The object store is the one that the environment names (LEVADA_OBJECTS_…, LEVADA_SOURCES).
    """
    from levada import upload as uploads
    from levada.settings import Settings
    from levada.stores.open import ensure_bucket, open_objects

    settings, relatives = Settings(), uploads.Relatives()
    sources = settings.sources or f"s3://{settings.objects_bucket}/sources"
    settings = settings.model_copy(update={"objects_bucket": urlsplit(sources).netloc})
    named = [found for r in _load(filename, namespace, relatives) if (found := relatives.of(r)) is not None]
    ensure_bucket(settings)
    objects = open_objects(settings)
    for relative in named:
        for path, uri in uploads.files(relative, sources):
            was_put = uploads.put(objects, path, uri)
            out.print(f"{'put' if was_put else 'is there:'} {uri}", highlight=False, soft_wrap=True)


@app.command()
def operator() -> None:
    """Carry out the resources of a Kubernetes cluster, as the environment says (LEVADA_…), until told to end."""
    from levada import logs
    from levada.engines.kubernetes.inference import ScorerPods
    from levada.engines.kubernetes.jobs import StepPods
    from levada.engines.kubernetes.operator import run as operate
    from levada.settings import Settings

    settings = Settings()
    logs.as_json(settings.log_level)
    if not settings.steps_image:
        raise _fail("LEVADA_STEPS_IMAGE is not set: name the image of the steps")
    stores_secrets = _names(settings.stores_secret)
    pods = StepPods(settings.steps_image, settings.steps_service_account, stores_secrets)
    scorers = ScorerPods(
        settings.objects_bucket,
        settings.scorer_runtime,
        settings.scorer_service_account,
        stores_secrets,
        settings.expose,
    )
    namespaces = _names(settings.namespaces)
    operate(settings, pods, scorers, namespaces, settings.liveness)


@app.command()
def check(
    wait: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait for what does not answer yet.")] = 0,
) -> None:
    """Check that the API server and the stores let an operator in, as the environment says (LEVADA_…).

    Exit code 0: all do; 1: one does not.
    """
    from levada.engines.kubernetes.check import checks, problem_of
    from levada.settings import Settings

    settings, failed = Settings(), False
    for name, look in checks(settings, _names(settings.namespaces)).items():
        problem = problem_of(look, wait)
        failed |= problem is not None
        out.print(f"{name}: {problem or 'ok'}", markup=False, highlight=False)
    if failed:
        raise typer.Exit(EXIT_FAILED)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Machine-learning pipelines from YAML manifests, on this machine."""
    # As it stands when something is logged: a live display puts its own in the place of stderr.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    if version:
        out.print(__version__)
        raise typer.Exit


# --- helpers ---------------------------------------------------------------------------------------------------------


def _load(
    filenames: Iterable[str], namespace: str, absolute: Callable[[str, Path], str] | None = None
) -> list[AnyResource]:
    """The resources of manifests that are all as they should be; ends the command where one is not."""
    read = _read(filenames, namespace, absolute)
    if read.problems or not read.resources:
        raise typer.Exit(EXIT_INVALID)
    return read.resources


def _read(filenames: Iterable[str], namespace: str, absolute: Callable[[str, Path], str] | None) -> Loaded:
    """What manifests hold; what is wrong with them is said."""
    read = load_all(list(filenames), namespace, absolute)
    for problem in [*read.notes, *read.problems]:
        err.print(str(problem), markup=False, highlight=False, soft_wrap=True)
    if not read.resources and not read.problems:
        err.print(f"{', '.join(filenames)} holds no Levada resource", markup=False, highlight=False)
    return read


def _entry(problem: Problem) -> dict[str, Any]:
    """A manifest that is no resource, beside those that are: its kind and name are there as far as they are known."""
    kind, _, name = problem.resource.partition(" ")
    named = {"kind": kind, "namespace": "", "name": name}
    return {**named, "valid": False, "message": problem.message, "file": problem.file, "line": problem.line}


def _unchangeable(home: Path, resources: Iterable[AnyResource]) -> dict[Ref, str]:
    """What manifests change of a home's resources although it may not change."""
    from levada.engines.local.access import home_of
    from levada.engines.local.home import Unchangeable

    kept, found = home_of(home), {}
    for resource in resources:
        try:
            kept.check(resource)
        except Unchangeable as error:
            found[resource.ref] = str(error).removeprefix(f"{resource.ref}: ")
    return found


def _kept(home: Path) -> set[Ref]:
    """What a home holds."""
    from levada.engines.local.access import home_of

    return {record.resource.ref for record in home_of(home).all()}


def _names(text: str) -> tuple[str, ...]:
    """What is written with commas between."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _named(ref: Ref) -> dict[str, str]:
    return {"kind": ref.kind.value, "namespace": ref.namespace, "name": ref.name}


def _kind(text: str) -> Kind:
    for kind in Kind:
        if text.lower() in (kind.value.lower(), PLURALS[kind], SHORT_NAMES[kind]):
            return kind
    known = ", ".join(f"{PLURALS[k]} ({SHORT_NAMES[k]})" for k in Kind)
    raise _fail(f"there is no kind '{text}'; there are {known}")


def _fail(message: str, code: int = EXIT_FAILED) -> typer.Exit:
    err.print(f"error: {message}", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _print(resources: list[AnyResource], output: Output, *, single: bool = False) -> None:
    if output == Output.TABLE:
        from levada.engines.local.display import overview, row_of

        out.print(overview(map(row_of, resources)))
        return
    documents = [resource.document() for resource in resources]
    _print_data(documents[0] if single else {"apiVersion": "v1", "kind": "List", "items": documents}, output)


def _print_data(data: Any, output: Output) -> None:
    if output == Output.JSON:
        json.dump(data, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        yaml.safe_dump(data, sys.stdout, sort_keys=False)


if __name__ == "__main__":
    app()
