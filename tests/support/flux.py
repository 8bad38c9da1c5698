"""The Flux controllers that bring a Git repository into a cluster, as processes beside an API server."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from levada.engines.local.embedded import free_ports
from levada.engines.local.keeper import Keeper, stop
from tests.support.apiserver import ApiServer
from tests.support.waiting import until
from tools.build import module_folder

MODULES = ("github.com/fluxcd/source-controller", "github.com/fluxcd/kustomize-controller")


def definitions() -> list[Path]:
    """Folders with the controllers' custom resource definitions."""
    return [module_folder("flux", module) / "config/crd/bases" for module in MODULES]


class FluxControllers:
    """source-controller and kustomize-controller, from their programs; they end when the block ends."""

    def __init__(self, source: Path, kustomize: Path, api: ApiServer, folder: Path) -> None:
        self._source = source
        self._kustomize = kustomize
        self._api = api
        self._folder = folder
        self._keeper = Keeper()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> FluxControllers:
        storage, *health = free_ports(3)
        artifacts = self._folder / "artifacts"
        artifacts.mkdir()
        # source-controller hands its artifacts to kustomize-controller by HTTP.
        served = {f"storage-{name}": f"127.0.0.1:{storage}" for name in ("addr", "adv-addr")}
        self._spawn(self._source, health[0], {"storage-path": str(artifacts), **served})
        self._spawn(self._kustomize, health[1], {})
        try:
            for process, port in zip(self._processes, health, strict=True):
                until(lambda port=port: _is_ready(port), process)  # type: ignore[misc]
        except AssertionError as error:
            self.__exit__()
            raise AssertionError(f"{error}\n{self.log()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            stop(process, signal.SIGTERM)
        self._keeper.close()

    def log(self) -> str:
        """The ends of both logs."""
        logs = sorted(self._folder.glob("*-controller.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-4000:]}" for log in logs)

    def _spawn(self, program: Path, health: int, flags: dict[str, str]) -> None:
        flags = flags | {
            "health-addr": f"127.0.0.1:{health}",
            "metrics-addr": "0",
            "interval-jitter-percentage": "0",
            "requeue-dependency": "1s",
            "log-level": "info",
        }
        scratch = self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        process = self._keeper.spawn(
            [program, *(f"--{name}={value}" for name, value in flags.items())],
            record=self._folder / f"{program.name}.json",
            log=self._folder / f"{program.name}.log",
            environment={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self._folder),
                "TMPDIR": str(scratch),
                "KUBECONFIG": str(self._api.kubeconfig),
                "RUNTIME_NAMESPACE": "default",
            },
            cwd=self._folder,
            stop_signal=signal.SIGTERM,
        )
        self._processes.append(process)


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False
