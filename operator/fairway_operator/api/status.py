"""What is true of a Route; written by the operator."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from fairway_operator.api.forms import ApiStruct


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class RouteCondition(ApiStruct, frozen=True, kw_only=True):
    """One aspect of the state, as metav1.Condition."""

    type: Annotated[
        str,
        Meta(description="Accepted, ResolvedRefs or Programmed.", min_length=1, max_length=316),
    ]
    status: Annotated[ConditionStatus, Meta(description="True, False or Unknown.")]
    reason: Annotated[str, Meta(description="Why, in one word.", min_length=1, max_length=1024)]
    message: Annotated[str, Meta(description="Why, in a sentence.", max_length=32768)]
    last_transition_time: Annotated[
        str,
        Meta(
            description="When the status last changed.",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    observed_generation: Annotated[
        int,
        Meta(
            description="Generation of the object that this is about.",
            ge=0,
            extra_json_schema={"format": "int64"},
        ),
    ]


class RouteStatus(ApiStruct, frozen=True, kw_only=True):
    """What is true of the Route; written by the operator."""

    observed_generation: Annotated[
        int | None,
        Meta(
            description="Generation of the object that the status is about.",
            extra_json_schema={"format": "int64"},
        ),
    ] = None
    conditions: Annotated[
        tuple[RouteCondition, ...],
        Meta(
            description="Accepted: the Route is well-formed and ours. ResolvedRefs: what it refers"
            " to exists and may be used. Programmed: every data plane serves this generation.",
            max_length=8,
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = ()
