"""
The Route API, ``fairway.dev/v1alpha1``.

The structs of :mod:`fairway_operator.api.route` are the one source: bodies are
decoded with them, and :func:`fairway_operator.api.crd.crd` derives the
CustomResourceDefinition, with its documentation, from the same annotations.
"""

GROUP = "fairway.dev"
VERSION = "v1alpha1"
