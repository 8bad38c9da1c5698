"""A real API server for the tests of this folder, and until the last of them: even an idle one takes a tenth of a core.

One in each of two xdist workers, since its start takes seconds of CPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client, config

from levada.engines.local.servers import Endpoints, LocalServers
from levada.names import Kind
from tests.support.apiserver import ApiServer, RunningApiServer
from tests.support.controllers import ControllerManager, PodRunner
from tests.support.space import Space
from tests.support.waiting import until

Kubectl = Callable[..., str]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "tools" / "build.py"


LONG = ("test_gitops.py", "test_patience.py", "test_serving.py")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share two API servers, in two workers, between the tests that use one (`--dist loadgroup`)."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group("api-long" if item.path.name in LONG else "api"))


@pytest.fixture(scope="package")
def api_server() -> Iterator[ApiServer]:
    """An API server of the current Kubernetes version with a cluster admin's kubeconfig, and nothing else running.

    Its programs are built once per machine, which takes some minutes.
    """
    built = subprocess.run([sys.executable, BUILD, "etcd", "kube-apiserver"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        pytest.skip("etcd and kube-apiserver cannot be built here: run 'make tools' to see why")
    etcd, kube_apiserver = map(Path, built.stdout.split())
    with (
        tempfile.TemporaryDirectory(prefix="levada-api-") as folder,
        RunningApiServer(Path(folder), etcd, kube_apiserver) as running,
    ):
        yield running


@pytest.fixture(scope="package")
def kubectl(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Runs kubectl as a cluster admin; what it printed."""
    built = subprocess.run([sys.executable, BUILD, "kubectl"], stdout=subprocess.PIPE, text=True)
    program = built.stdout.strip()
    if built.returncode != 0:
        pytest.skip("kubectl cannot be built here: run 'make tools' to see why")

    def run(*arguments: str, fails: bool = False) -> str:
        # A cache of its own for each call: an older one may know nothing of the definitions yet.
        cache = tmp_path_factory.mktemp("kubectl")
        command = [program, f"--kubeconfig={api_server.kubeconfig}", f"--cache-dir={cache}", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="package")
def connection(api_server: ApiServer, kubectl: Kubectl) -> Iterator[client.ApiClient]:
    """A client of an API server that knows the committed definitions."""
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    kinds = len(Kind)  # discovery follows a moment after the definitions
    until(lambda: len(kubectl("api-resources", "--categories=levada", "-o", "name").split()) == kinds)
    with config.new_client_from_config(str(api_server.kubeconfig)) as connection:
        yield connection


@pytest.fixture(scope="package")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    with LocalServers(tmp_path_factory.mktemp("stores"), durable=False) as servers:
        yield servers.start_all()


@pytest.fixture(scope="package")
def pods(
    api_server: ApiServer, connection: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PodRunner]:
    built = subprocess.run([sys.executable, BUILD, "kube-controller-manager"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        pytest.skip("kube-controller-manager cannot be built here: run 'make tools' to see why")
    folder = tmp_path_factory.mktemp("controllers")
    program = Path(built.stdout.strip())
    with ControllerManager(program, api_server, folder), PodRunner(connection, folder) as runner:
        yield runner


@pytest.fixture
def space(empty_space: Space) -> Space:
    """A namespace with an operator."""
    empty_space.start()
    return empty_space


@pytest.fixture
def empty_space(
    api_server: ApiServer,
    connection: client.ApiClient,
    stores: Endpoints,
    pods: PodRunner,
    tmp_path: Path,
) -> Iterator[Space]:
    """A namespace with the stores' Secret, where no operator runs yet."""
    with new_space(api_server, connection, stores, pods, tmp_path) as space:
        yield space


@contextmanager
def new_space(
    api_server: ApiServer, connection: client.ApiClient, stores: Endpoints, pods: PodRunner, folder: Path
) -> Iterator[Space]:
    """A namespace with the stores' Secret; its operators, which log into the folder, end with the block."""
    core = client.CoreV1Api(connection)
    made = core.create_namespace(
        {
            "metadata": {
                "generateName": "levada-",
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            }
        }
    )
    namespace = made.metadata.name
    secret = {"metadata": {"name": "levada-stores"}, "stringData": stores.environment()}
    core.create_namespaced_secret(namespace, secret)
    others = (client.BatchV1Api(connection), client.CustomObjectsApi(connection))
    space = Space(namespace, api_server, core, *others, stores, pods, folder / "operator.log")
    try:
        yield space
    finally:
        space.end_all()
