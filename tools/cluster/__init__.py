"""A real single-node Kubernetes cluster on this machine, without Docker and without an image registry.

`python -m tools.cluster up` starts it; docs/cluster.md says what stands where and why.
"""
