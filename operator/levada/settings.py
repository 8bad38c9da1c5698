"""Configuration in one place: the environment, secrets included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of steps, scorers, the operator and the local engine; each is `LEVADA_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="LEVADA_", secrets_dir=None, extra="ignore", frozen=True)

    objects_endpoint: str = Field(default="", description="S3 endpoint; empty: the SDK's default for the region.")
    objects_bucket: str = Field(default="levada", description="Bucket of everything that Levada keeps.")
    objects_region: str = Field(default="us-east-1", description="S3 region.")
    objects_access_key: str = Field(default="", description="S3 access key.")
    objects_secret_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key.")
    postgres_dsn: SecretStr = Field(
        default=SecretStr(""),
        description="Catalogue: postgresql://user:password@host/db.",
    )
    nats_url: str = Field(default="", description="Bus: nats://host:4222.")
    nats_user: str = Field(default="", description="NATS user.")
    nats_password: SecretStr = Field(default=SecretStr(""), description="NATS password.")
    allow_file_sources: bool = Field(
        default=False,
        description="Whether file:// sources are read (local engine only).",
    )
    local_durable: bool = Field(
        default=True,
        description="Local engine: whether catalogue and home survive a power failure (off: faster tests).",
    )
    scratch: Path | None = Field(default=None, description="Folder for temporary files; the system's if absent.")
    memory_limit_bytes: int | None = Field(
        default=None, description="Memory that a step may use; the cgroup's if absent."
    )
    progress: Path | None = Field(default=None, description="File to which a step appends its progress.")
    progress_seconds: float = Field(
        default=10, description="Steps and operator: how often a step without such a file says how far it is."
    )
    termination_log: Path = Field(
        default=Path("/dev/termination-log"),
        description="Where a step leaves its Termination, and a scorer why it gave up.",
    )
    sources: str = Field(
        default="",
        description="Operator: s3://bucket/prefix below whose <namespace>/ relative URIs lie; empty: sources/ of the "
        "bucket.",
    )
    steps_image: str = Field(default="", description="Operator: image of the steps.")
    steps_service_account: str = Field(default="levada-steps", description="Operator: whose rights steps have.")
    stores_secret: str = Field(
        default="levada-stores",
        description="Operator: Secrets of each namespace with the stores' settings for steps and scorers (LEVADA_…), "
        "with commas between them; where two say the same thing, the later one is heard.",
    )
    scorer_runtime: str = Field(default="levada-scorer", description="Operator: ClusterServingRuntime of the scorers.")
    scorer_service_account: str = Field(
        default="levada-scorer",
        description="Operator: whose rights scorers have; KServe reads models with its Secrets.",
    )
    expose: bool = Field(
        default=False, description="Operator: whether KServe makes scorers reachable from outside of the cluster."
    )
    scorer_config: str = Field(default="", description="Scorer: its configuration (JSON), where no file is named.")
    namespaces: str = Field(default="", description="Operator: namespaces with commas between them; empty: all.")
    liveness: str | None = Field(default=None, description="Operator: where it says that it lives (http://…).")
    lease_namespace: str = Field(
        default="", description="Operator: namespace of the Lease that makes one replica active; empty: no Lease."
    )
    lease_name: str = Field(default="levada-operator", description="Operator: name of that Lease.")
    lease_identity: str = Field(default="", description="Operator: who it is there; host name and a UUID if empty.")
    lease_duration: float = Field(default=15, description="Operator: seconds until others may take the Lease over.")
    lease_renew_deadline: float = Field(default=10, description="Operator: seconds to act after the last renewal.")
    lease_retry: float = Field(default=2, description="Operator: seconds between attempts to renew or take it.")
    resync_seconds: float = Field(
        default=60, description="Operator: how often it looks at everything, in case a watch has missed something."
    )
    metrics_port: int = Field(default=0, description="Operator: port where it tells Prometheus its metrics; 0: none.")
    log_level: str = Field(default="info", description="debug, info, warning, error.")


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from variables that are not those of this process."""
    prefix = "LEVADA_"
    return Settings.model_validate(
        {name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)}
    )
