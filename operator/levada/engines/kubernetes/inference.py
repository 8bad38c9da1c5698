"""Scorers as KServe has them: what is to be served becomes an InferenceService. Pure: builds and compares documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levada import names
from levada.engines.kubernetes.jobs import NOBODY, owner_reference
from levada.engines.scorers import leading, scorer_config
from levada.planners.plan import Serving
from levada.steps.io import Owner

Document = dict[str, Any]

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
CONTAINER = "kserve-container"
INITIALIZER = "storage-initializer"
FORMAT = "levada"  # model format that the ClusterServingRuntime supports
MODELS = Path("/mnt/models")
SERVES_ANNOTATION = f"{names.GROUP}/serves"  # on each pod: the one that answers requests which name no version
SET_ANNOTATION = f"{names.GROUP}/set"  # on each pod: a digest of its configuration
# Told to end, a scorer accepts connections until every proxy has heard of it, ends what is under way, and records.
DRAIN_SECONDS, GRACE_SECONDS = 5, 60


@dataclass(frozen=True)
class ScorerPods:
    """What all scorers have: the operator's own settings."""

    bucket: str
    runtime: str = "levada-scorer"
    service_account: str = "levada-scorer"
    stores_secrets: tuple[str, ...] = ("levada-stores",)  # as StepPods has them
    expose: bool = False  # whether KServe makes them reachable from outside of the cluster


def inference_service(serving: Serving, owner: Owner, pods: ScorerPods) -> Document:
    """The InferenceService of a Deployment: scorers that hold a set of versions.

    KServe brings the model of the version that serves; those that stay warm are read by the scorers themselves, since
    as it is installed KServe brings one model to a pod. The set is part of the pods' template: another set is a
    rolling update, in which the old scorers answer until the new ones hold what serves.
    """
    # Imported where it is first needed: 120 MiB and a second, which only operators with Deployments pay.
    from kserve import models as kserve
    from kubernetes import client

    config = scorer_config(serving, folder=MODELS, drain_seconds=DRAIN_SECONDS).to_bytes().decode()
    container = kserve.V1beta1ModelSpec(
        model_format=kserve.V1beta1ModelFormat(name=FORMAT),
        protocol_version="v2",
        runtime=pods.runtime,
        storage_uri=f"s3://{pods.bucket}/{leading(serving).model_prefix}",
        env=[client.V1EnvVar(name="LEVADA_SCORER_CONFIG", value=config)],
        env_from=[
            client.V1EnvFromSource(secret_ref=client.V1SecretEnvSource(name=name)) for name in pods.stores_secrets
        ],
        resources=serving.resources.document() if serving.resources is not None else None,
    )
    predictor = kserve.V1beta1PredictorSpec(
        model=container,
        annotations={
            SERVES_ANNOTATION: str(leading(serving).version),
            SET_ANNOTATION: names.short_hash(config),
        },
        deployment_strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        service_account_name=pods.service_account,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=GRACE_SECONDS,
        security_context=client.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=NOBODY,
            run_as_group=NOBODY,
            fs_group=NOBODY,
            seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
        ),
        **_scale(serving),
    )
    labels = {
        names.LABEL_KIND: owner.kind.value,
        names.LABEL_NAME: owner.name,
        "app.kubernetes.io/part-of": "levada",
    }
    service = kserve.V1beta1InferenceService(
        api_version=f"{GROUP}/{VERSION}",
        kind="InferenceService",
        metadata=client.V1ObjectMeta(
            name=serving.name,
            namespace=owner.namespace,
            labels=labels if pods.expose else labels | {"networking.kserve.io/visibility": "cluster-local"},
            annotations={
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "none" if serving.max_replicas is None else "hpa",
            },
            owner_references=[owner_reference(owner)],
        ),
        spec=kserve.V1beta1InferenceServiceSpec(predictor=predictor),
    )
    document: Document = client.ApiClient().sanitize_for_serialization(service)
    del document["spec"]["predictor"]["model"]["name"]  # empty: the runtime names its container, and KServe insists
    return document


def covers(there: Any, wanted: Any) -> bool:
    """Whether a document has everything that another one says; what others have added does not matter."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(key in there and covers(there[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(covers, there, wanted))
    return bool(there == wanted)


def _scale(serving: Serving) -> Document:
    if serving.max_replicas is None:
        return {"min_replicas": serving.replicas, "max_replicas": max(1, serving.replicas)}
    return {
        "min_replicas": serving.min_replicas,
        "max_replicas": serving.max_replicas,
        "scale_metric": "cpu",
        "scale_target": serving.target_cpu_percent,
    }
