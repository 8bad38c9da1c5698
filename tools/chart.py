"""Write what is made for and from the chart: its copy of the definitions, its table of values, the Kustomize base.

python -m tools.chart        needs Helm, which is built once (tools/build.py)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from levada.generate import write
from levada.resources import crd
from tools.build import BuildError, ensure

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "levada"
KUSTOMIZE = ROOT / "charts" / "kustomize"
STORES = ("minio", "postgres", "nats")
KUBE_VERSION = "v1.34.0"  # what manifests are rendered for; the chart says from which version on it installs

Document = dict[str, Any]

_HEADER = "# Generated from charts/levada by 'make generate': do not edit.\n"
_README = """<!-- Generated from values.schema.json and values.yaml by 'make generate': do not edit. -->
# The chart levada

Installs Levada's custom resource definitions, its operator, KServe's runtime for its scorers and, for trying out,
MinIO, Postgres and NATS. [How to install it, upgrade it and remove it](../../docs/install.md).

```sh
helm install levada charts/levada --namespace levada --create-namespace
```

## Values

What is not listed here is refused.

| Value | Type | Default | Meaning |
| --- | --- | --- | --- |
"""


def outputs(helm: Path) -> dict[str, str]:
    """The text of each generated file, by its path in the repository."""
    base, stores = _split(render(helm, _kustomize_values()))
    return {
        "charts/levada/files/crds.yaml": definitions(),
        "charts/levada/README.md": readme(),
        "charts/kustomize/base/crds.yaml": definitions(),
        "charts/kustomize/base/levada.yaml": _HEADER + _dump(base),
        "charts/kustomize/stores/stores.yaml": _HEADER + _dump(stores),
    }


def definitions() -> str:
    """All custom resource definitions in one file, for `kubectl apply --server-side -f`."""
    documents = [text.removeprefix(crd.HEADER) for text in crd.files().values()]
    return crd.HEADER + "---\n".join(documents)


def render(helm: Path, values: Document, namespace: str = "levada") -> list[Document]:
    """The objects of the chart with some values. Raises CalledProcessError with what Helm says."""
    command = [str(helm), "template", "levada", str(CHART), f"--namespace={namespace}", "--values=-"]
    command.append(f"--kube-version={KUBE_VERSION}")
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


# --- the table of values ---------------------------------------------------------------------------------------------


def readme() -> str:
    """charts/levada/README.md."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return _README + "".join(f"{row}\n" for row in _rows(schema, values, schema["definitions"]))


def _rows(schema: Document, values: Document, definitions: Document, prefix: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        if name not in values:
            continue  # `global` belongs to Helm
        whole = definitions[field["$ref"].rpartition("/")[2]] | field if "$ref" in field else field
        if "properties" in field:
            yield f"| **`{prefix}{name}`** | | | {field['description']} |"
            yield from _rows(field, values[name], definitions, f"{prefix}{name}.")
        else:
            default = json.dumps(values[name], ensure_ascii=False)
            yield f"| `{prefix}{name}` | {_type(whole)} | `{default}` | {field['description']} |"


def _type(field: Document) -> str:
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    types = field["type"]
    return " or ".join(types) if isinstance(types, list) else str(types).replace("array", "list")


# --- Kustomize -------------------------------------------------------------------------------------------------------


def _kustomize_values() -> Document:
    """Secrets are the user's own: what is committed holds no password."""
    return {
        "crds": {"install": False},
        "stores": {"existingSecret": "levada-stores"},
        "models": {"existingSecret": "levada-models"},
    }


def _split(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """What everyone needs, and the bundled stores; without what only Helm reads."""
    base: list[Document] = []
    stores: list[Document] = []
    for document in documents:
        metadata = document["metadata"]
        if "helm.sh/hook" in metadata.get("annotations", {}):
            continue
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            metadata["labels"].pop(label, None)
        target = stores if metadata["labels"]["app.kubernetes.io/component"] in STORES else base
        target.append(document)
    return base, stores


def _dump(documents: list[Document]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=120)


def main() -> None:
    """Write all files."""
    try:
        (helm,) = ensure(["helm"])
        wanted = outputs(helm)
    except (BuildError, subprocess.CalledProcessError) as error:
        sys.exit(f"chart: {getattr(error, 'stderr', None) or error}")
    write(wanted)


if __name__ == "__main__":
    main()
