"""Levada: a machine-learning pipeline described by Kubernetes resources."""

__version__ = "0.1.0"
