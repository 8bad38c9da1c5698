"""The engine for clusters: kopf watches, plans become Jobs and statuses by way of the API server."""
