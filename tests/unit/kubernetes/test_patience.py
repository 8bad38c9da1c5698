"""How a status says what is in the way."""

from __future__ import annotations

from datetime import UTC, datetime

from levada.engines.kubernetes.patience import held_up, says_held_up
from levada.resources import Dataset
from levada.resources.conditions import Reason

SHOPS = Dataset.model_validate(
    {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "shops"},
        "spec": {"source": {"type": "object", "object": {"uri": "s3://a/b"}}, "format": {"type": "csv"}},
    }
)


def test_x5_whatever_the_api_server_says_fits_into_the_status() -> None:
    status = held_up(SHOPS, SHOPS.status, Reason.RETRYING, "x" * 100_000, datetime(2026, 1, 1, tzinfo=UTC))

    assert says_held_up(status, Reason.RETRYING)
    assert len(status.conditions[0].message) == 1024
