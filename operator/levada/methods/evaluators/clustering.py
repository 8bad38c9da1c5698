"""How distinct clusters are."""

from __future__ import annotations

import numpy as np

from levada.methods.evaluators.base import Chart, Finding, Measured, histogram
from levada.resources.trainingrun import Task

SILHOUETTE_ROWS = 3000  # it compares every row with every other
BARS = 25


class Clustering:
    """Silhouette (on a sample; 1: far apart, 0: overlapping), inertia (sum of squared distances), and sizes."""

    tasks: frozenset[Task] = frozenset({"clustering"})

    def measure(self, data: Measured) -> Finding:
        assert data.cluster is not None
        names, counts = np.unique(data.cluster, return_counts=True)
        metrics = {"clusters": float(len(names)), "largestShare": float(counts.max() / counts.sum())}
        charts = [
            Chart(
                kind="bars",
                title="Sizes",
                x="Cluster",
                y="Rows",
                names=[str(name) for name in names],
                values=[float(count) for count in counts],
                note="How many of the measured rows are in each cluster.",
            )
        ]
        if data.distance is not None:
            metrics["inertia"] = float(np.sum(data.distance**2))
            metrics["meanDistance"] = float(np.mean(data.distance))
            stretches, heights = histogram(data.distance, BARS)
            charts.append(
                Chart(
                    kind="bars",
                    title="Distances",
                    x="Distance to the cluster's mean",
                    y="Rows",
                    names=stretches,
                    values=heights,
                    note="Rows far from every mean fit in no cluster well.",
                )
            )
        warnings = self._silhouette(data, metrics)
        return Finding(metrics=metrics, charts=charts, warnings=warnings)

    @staticmethod
    def _silhouette(data: Measured, metrics: dict[str, float]) -> list[str]:
        from sklearn.metrics import silhouette_score

        assert data.cluster is not None
        if data.features is None:
            return ["silhouette cannot be measured: the model does not show the features that its clusters are made in"]
        rows = np.arange(len(data.cluster))
        if len(rows) > SILHOUETTE_ROWS:
            rows = np.random.default_rng(data.seed).choice(rows, SILHOUETTE_ROWS, replace=False)
        if not 1 < len(np.unique(data.cluster[rows])) < len(rows):
            return ["silhouette cannot be measured: it needs at least two clusters, and fewer than rows"]
        metrics["silhouette"] = float(silhouette_score(data.features[rows], data.cluster[rows]))
        return []
