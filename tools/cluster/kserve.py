"""KServe in Standard mode from its own charts, without what a test cluster has no use for: cert-manager, the proxy
before its metrics, images from a registry."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from tools.cluster.certificates import Authority

NAMESPACE = "kserve"
SERVICE = "kserve-webhook-server-service"
SECRET = "kserve-webhook-server-cert"
USER = 65532

Object = dict[str, Any]


def render(
    helm: Path, charts: Path, registry: str, tag: str, certificate: dict[str, str]
) -> tuple[list[Object], list[Object]]:
    """KServe's CRDs, and everything else, ready to be applied. `certificate`: see `new_certificate`."""
    crds = _template(helm, charts / "kserve-crd", {})
    return crds, adapt(_template(helm, charts / "kserve-resources", values(registry, tag)), certificate)


def new_certificate() -> dict[str, str]:
    """Data of the webhooks' Secret, made anew."""
    authority = Authority("levada-kserve-ca")
    pair = authority.issue(SERVICE, hosts=[f"{SERVICE}.{NAMESPACE}.svc", f"{SERVICE}.{NAMESPACE}"])
    content = {"ca.crt": authority.pair.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    return {name: b64encode(pem).decode() for name, pem in content.items()}


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


def adapt(objects: list[Object], certificate: dict[str, str]) -> list[Object]:
    """The charts' objects with a webhook certificate made here, and a controller that is ready at once."""
    adapted = [_certificate_secret(certificate)]
    for one in objects:
        if one["apiVersion"].startswith("cert-manager.io/"):
            continue
        if one["kind"] in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
            for webhook in one["webhooks"]:
                webhook["clientConfig"]["caBundle"] = certificate["ca.crt"]
        if one["kind"] == "Deployment":
            _adapt_controller(one["spec"]["template"]["spec"])
        adapted.append(one)
    return adapted


def _adapt_controller(spec: Object) -> None:
    spec["containers"] = [container for container in spec["containers"] if container["name"] == "manager"]
    (manager,) = spec["containers"]
    del manager["command"]  # the image's own entry point
    manager["readinessProbe"] |= {"initialDelaySeconds": 0, "periodSeconds": 1}


def _certificate_secret(certificate: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "data": certificate,
    }


def _template(helm: Path, chart: Path, values: Object) -> list[Object]:
    command = [str(helm), "template", "kserve", str(chart), "--namespace", NAMESPACE, "--values", "-"]
    done = subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]
