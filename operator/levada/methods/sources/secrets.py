"""Secrets by reference: what the engine has put into the environment under their names."""

from __future__ import annotations

import os

from levada.errors import Stalled
from levada.resources.conditions import Reason

KEYS = ("accessKey", "secretKey", "username", "password", "token")
"""What a source may ask of a Secret."""


def variable(secret: str, key: str) -> str:
    """The environment variable of a Secret's key: `landing`, `accessKey` → `LEVADA_SECRET_LANDING_ACCESSKEY`."""
    return f"LEVADA_SECRET_{secret}_{key}".upper().replace("-", "_")


def secret_values(secret: str, *keys: str) -> tuple[str, ...]:
    """The values of some keys of a Secret; raises Stalled (AccessDenied) naming the first that is not there."""
    for key in keys:
        if not os.environ.get(variable(secret, key)):
            raise Stalled(
                Reason.ACCESS_DENIED,
                f"the Secret '{secret}' has no key '{key}': add it (on one machine: set {variable(secret, key)})",
            )
    return tuple(os.environ[variable(secret, key)] for key in keys)
