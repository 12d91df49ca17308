"""
Findings: what is wrong with an object, for the person who wrote it.

A finding is a value, never an exception. It names the object, the field, and
what to write instead; it is shown in status, in events and by the command
line. It holds no content of Secrets.
"""

from enum import StrEnum

import msgspec

from fairway_operator.refs import ObjectRef


class Severity(StrEnum):
    """What a finding means for traffic."""

    ERROR = "error"
    """A part of the object is not served as it is written."""
    WARNING = "warning"
    """Everything is served, but hardly as its author expects."""
    INFO = "info"
    """Good to know."""


class Reason(StrEnum):
    """Stable names of what can be wrong; also reasons of events and conditions."""

    # The object itself.
    INVALID_OBJECT = "InvalidObject"
    """A field has a type that the API server would not have admitted."""
    INVALID_HOST = "InvalidHost"
    INVALID_PATH = "InvalidPath"
    INVALID_MATCH = "InvalidMatch"
    INVALID_BACKEND = "InvalidBackend"
    INVALID_FILTER = "InvalidFilter"
    INVALID_DURATION = "InvalidDuration"
    INVALID_ANNOTATION = "InvalidAnnotation"
    UNKNOWN_ANNOTATION = "UnknownAnnotation"
    FOREIGN_ANNOTATION = "ForeignAnnotation"
    """Of another controller, and not to be had here as it is written."""
    UNSUPPORTED_BACKEND = "UnsupportedBackend"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    UNSUPPORTED_PARAMETERS = "UnsupportedParameters"
    TOO_LARGE = "TooLarge"
    NO_ROUTES = "NoRoutes"
    # What it refers to.
    UNKNOWN_SERVICE = "UnknownService"
    UNKNOWN_PORT = "UnknownPort"
    UNKNOWN_CLASS = "UnknownClass"
    UNKNOWN_SECRET = "UnknownSecret"  # noqa: S105 - a reason, not a password
    REF_NOT_PERMITTED = "RefNotPermitted"
    ADDRESS_NOT_PERMITTED = "AddressNotPermitted"
    ACCESS_NOT_ENFORCED = "AccessNotEnforced"
    """Somebody is to be kept out by what is not to be had here, so nobody is served."""
    INVALID_CERTIFICATE = "InvalidCertificate"
    HOST_NOT_COVERED = "HostNotCovered"
    # Its neighbours.
    CONFLICT = "Conflict"
    """Another, older object has the same host and match, or the same TLS host."""
    # Its history.
    LAST_GOOD_SERVED = "LastGoodServed"
    """This version has errors; an earlier one goes on serving."""
    INTERNAL_ERROR = "InternalError"
    """A bug of ours, met in this object; everything else is served."""


class Finding(msgspec.Struct, frozen=True, order=True, kw_only=True, gc=False):
    """One thing that is wrong, where, and what to write instead."""

    subject: ObjectRef
    field: str
    """Such as ``spec.rules[0].http.paths[1].backend.service.port``; empty for the whole object."""
    reason: Reason
    severity: Severity = Severity.ERROR
    message: str
    """One sentence, starts lower-case, names the value."""
    hint: str = ""
    """What to write instead, or empty when there is nothing to write."""
    other: ObjectRef | None = None
    """The object on the other side of a conflict."""
