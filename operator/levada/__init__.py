"""Levada: a machine-learning pipeline described by Kubernetes resources."""

import os

__version__ = "0.1.0"

# onnxruntime reports its use to its makers unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
