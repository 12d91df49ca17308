"""
Admission: the API server asks before it takes an Ingress or a Route.

:mod:`~fairway_operator.admission.review` decides and knows no network,
:mod:`~fairway_operator.admission.server` answers over TLS, and
:mod:`~fairway_operator.admission.registration` tells the API server whom to
trust. Nothing that is served depends on any of them.
"""
