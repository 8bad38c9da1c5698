"""Levada: a machine-learning pipeline described as Kubernetes custom resources."""
