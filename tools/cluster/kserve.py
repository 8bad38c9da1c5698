"""KServe in Standard mode from its own charts, without what a test cluster has no use for: cert-manager, the proxy
before its metrics, images from a registry."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from tools.cluster.certificates import Authority, KeyPair

NAMESPACE = "kserve"
SERVICE = "kserve-webhook-server-service"
SECRET = "kserve-webhook-server-cert"
USER = 65532

Object = dict[str, Any]


def render(helm: Path, charts: Path, registry: str, tag: str) -> tuple[list[Object], list[Object]]:
    """KServe's CRDs, and everything else, ready to be applied."""
    crds = _template(helm, charts / "kserve-crd", {})
    return crds, adapt(_template(helm, charts / "kserve-resources", values(registry, tag)))


def values(registry: str, tag: str) -> Object:
    """Values of the chart kserve-resources."""
    controller = {
        "image": f"{registry}/kserve-controller",
        "tag": tag,
        "deploymentMode": "Standard",
        # Nothing in the cluster carries out an Ingress; predictors are reached by their Services.
        "gateway": {"disableIngressCreation": True, "disableIstioVirtualHost": True},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "containerSecurityContext": {"runAsUser": USER},
    }
    storage = {
        "image": f"{registry}/storage",
        "tag": tag,
        # As restricted Pod Security asks.
        "containerSecurityContext": {"runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    # What a predictor's container gets that names none; the charts' one whole core would fill a small node.
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    return {"kserve": {"controller": controller, "storage": storage, "inferenceservice": {"resources": resources}}}


def adapt(objects: list[Object]) -> list[Object]:
    """The charts' objects with a webhook certificate made here, and a controller that is ready at once."""
    authority = Authority("levada-kserve-ca")
    pair = authority.issue(SERVICE, hosts=[f"{SERVICE}.{NAMESPACE}.svc", f"{SERVICE}.{NAMESPACE}"])
    bundle = b64encode(authority.pair.certificate).decode()
    adapted = [_certificate_secret(pair)]
    for one in objects:
        if one["apiVersion"].startswith("cert-manager.io/"):
            continue
        if one["kind"] in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
            for webhook in one["webhooks"]:
                webhook["clientConfig"]["caBundle"] = bundle
        if one["kind"] == "Deployment":
            _adapt_controller(one["spec"]["template"]["spec"])
        adapted.append(one)
    return adapted


def _adapt_controller(spec: Object) -> None:
    spec["containers"] = [container for container in spec["containers"] if container["name"] == "manager"]
    (manager,) = spec["containers"]
    del manager["command"]  # the image's own entry point
    manager["readinessProbe"] |= {"initialDelaySeconds": 0, "periodSeconds": 1}


def _certificate_secret(pair: KeyPair) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "data": {"tls.crt": b64encode(pair.certificate).decode(), "tls.key": b64encode(pair.key).decode()},
    }


def _template(helm: Path, chart: Path, values: Object) -> list[Object]:
    command = [str(helm), "template", "kserve", str(chart), "--namespace", NAMESPACE, "--values", "-"]
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]
