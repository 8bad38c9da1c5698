"""What Argo CD is told about Levada's kinds: how to read their health."""

from __future__ import annotations

from levada import names
from levada.names import Kind

_HEADER = """\
# Generated from health.lua by 'make generate': do not edit.
# Tells Argo CD how healthy Levada's resources are. It goes into the ConfigMap that Argo CD reads:
#   kubectl patch configmap argocd-cm -n argocd --patch-file charts/argocd/argocd-cm.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd
data:
"""


def config_map(script: str) -> str:
    """Argo CD's ConfigMap with the health check for each kind, as YAML.

    Argo CD takes no wildcards in its keys, so the script stands there once for each kind.
    """
    lines = "".join(f"    {line}".rstrip() + "\n" for line in script.splitlines())
    return _HEADER + "".join(f"  {key(kind)}: |\n{lines}" for kind in Kind)


def key(kind: Kind) -> str:
    """Where Argo CD looks for the health check of a kind."""
    return f"resource.customizations.health.{names.GROUP}_{kind.value}"
