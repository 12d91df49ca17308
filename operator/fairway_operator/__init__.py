"""The operator: from objects of Kubernetes to snapshots, and what the cluster is told of them."""
