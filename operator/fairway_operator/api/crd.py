"""
From the structs of the API to a CustomResourceDefinition.

The schema is structural, as ``apiextensions.k8s.io/v1`` demands: no
references, no unions, one type for each field. A union with None is an
optional field; ``int | str`` is the one union that Kubernetes knows.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from fairway_operator.api import GROUP, VERSION
from fairway_operator.api.forms import ApiStruct
from fairway_operator.api.route import RouteSpec
from fairway_operator.api.status import RouteStatus

Schema = dict[str, Any]


def crd() -> Schema:
    """Return the CustomResourceDefinition of Route as JSON values."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"routes.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "fairway"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "Route",
                "listKind": "RouteList",
                "plural": "routes",
                "singular": "route",
                "shortNames": ["frt"],
                "categories": ["fairway"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _columns() -> list[Schema]:
    programmed = '.status.conditions[?(@.type=="Programmed")]'
    return [
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
        {"name": "Programmed", "type": "string", "jsonPath": f"{programmed}.status"},
        {"name": "Reason", "type": "string", "jsonPath": f"{programmed}.reason"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _root() -> Schema:
    return {
        "type": "object",
        "description": "Route sends the requests of some hosts to Services. Its words are those of"
        " Gateway API's HTTPRoute wherever they mean the same.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": "Route"},
            "metadata": {"type": "object"},
            "spec": _schema(inspect.type_info(RouteSpec)),
            "status": _schema(inspect.type_info(RouteStatus)),
        },
    }


def _schema(kind: inspect.Type) -> Schema:  # noqa: PLR0911 - one return for each type there is
    match kind:
        case inspect.Metadata():
            # Outer words go before inner ones: a field says more than its type.
            return _schema(kind.type) | (kind.extra_json_schema or {}) | _enum(kind.extra)
        case inspect.StructType():
            return _struct(kind)
        case inspect.UnionType():
            return _union(kind)
        case inspect.VarTupleType():
            schema: Schema = {"type": "array", "items": _schema(kind.item_type)}
            return schema | _limits(minItems=kind.min_length, maxItems=kind.max_length)
        case inspect.StrType():
            return {"type": "string"} | _limits(
                minLength=kind.min_length,
                maxLength=kind.max_length,
                pattern=kind.pattern and kind.pattern.replace(r"\Z", "$"),
            )
        case inspect.IntType():
            return {"type": "integer"} | _limits(minimum=kind.ge, maximum=kind.le)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.EnumType():
            return {"type": "string", "enum": [str(member) for member in kind.cls]}
        case _:
            raise TypeError(f"{kind} has no place in a structural schema")


def _struct(kind: inspect.StructType) -> Schema:
    required = [field.encode_name for field in kind.fields if field.required]
    schema: Schema = {
        "type": "object",
        "properties": {field.encode_name: _field(field) for field in kind.fields},
    }
    if kind.cls.__doc__:
        schema["description"] = kind.cls.__doc__.strip()
    if required:
        schema["required"] = required
    assert issubclass(kind.cls, ApiStruct)
    if kind.cls.__cel__:
        schema["x-kubernetes-validations"] = [
            {"rule": cel.rule, "message": cel.message} for cel in kind.cls.__cel__
        ]
    return schema


def _field(field: inspect.Field) -> Schema:
    schema = _schema(field.type)
    default = field.default
    if default in (msgspec.NODEFAULT, None, "", ()):
        return schema
    plain = msgspec.to_builtins(default)
    if isinstance(plain, dict):
        # The API server refuses a default that holds null where the schema says string.
        plain = {name: value for name, value in plain.items() if value is not None}
    return schema | {"default": plain} if plain != {} else schema


def _union(kind: inspect.UnionType) -> Schema:
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return _schema(members[0])
    schemas = [_schema(member) for member in members]
    if {schema["type"] for schema in schemas} != {"integer", "string"}:
        raise TypeError(f"{kind} has no place in a structural schema")
    number = next(schema for schema in schemas if schema["type"] == "integer")
    text = next(schema for schema in schemas if schema["type"] == "string")
    return {
        "x-kubernetes-int-or-string": True,
        "minimum": number["minimum"],
        "maximum": number["maximum"],
        "minLength": text["minLength"],
        "maxLength": text["maxLength"],
        "pattern": text["pattern"],
    }


def _limits(**limits: object) -> Schema:
    return {name: limit for name, limit in limits.items() if limit is not None}


def _enum(extra: Mapping[str, Any] | None) -> Schema:
    return {} if extra is None else dict(extra)
