"""The data plane: serves snapshots. Nothing here knows Kubernetes."""
