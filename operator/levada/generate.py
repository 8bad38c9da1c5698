"""Write the files that are made from the sources and committed: `make generate`; `make verify` fails if one differs."""

from __future__ import annotations

from pathlib import Path

from levada import event_reference
from levada.resources import argocd, crd, reference

ROOT = Path(__file__).resolve().parents[2]


def outputs() -> dict[str, str]:
    """The text of each generated file, by its path in the repository."""
    return {
        **{f"crds/{name}": text for name, text in crd.files().items()},
        "docs/resources.md": reference.page(),
        "docs/events.md": event_reference.page(),
        "charts/argocd/argocd-cm.yaml": argocd.config_map((ROOT / "charts/argocd/health.lua").read_text()),
    }


def write(wanted: dict[str, str]) -> None:
    """Write texts to files, by their paths in the repository."""
    for name, text in wanted.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> None:
    """Write all files, and remove definitions of kinds that there are no more."""
    wanted = outputs()
    for old in (ROOT / "crds").glob("*.yaml"):
        if f"crds/{old.name}" not in wanted:
            old.unlink()
    write(wanted)


if __name__ == "__main__":
    main()
