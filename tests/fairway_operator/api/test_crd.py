"""The CustomResourceDefinition: fresh, structural, documented, and as strict as the structs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairway_operator.api.__main__ import render
from fairway_operator.api.crd import crd
from fairway_operator.api.forms import ApiStruct
from fairway_operator.api.route import RouteSpec

CRDS = Path(__file__).parents[3] / "crds"
VERSION: dict[str, Any] = crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")


def test_the_file_in_crds_is_what_the_structs_say() -> None:
    """If this fails: ``python -m fairway_operator.api > crds/fairway.dev_routes.yaml``."""
    assert (CRDS / "fairway.dev_routes.yaml").read_text() == render()


def test_the_file_is_yaml_of_the_definition() -> None:
    assert yaml.safe_load(render()) == crd()


def test_every_schema_is_structural() -> None:
    for path, schema in walk(SCHEMA):
        assert ("type" in schema) != ("x-kubernetes-int-or-string" in schema), path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "nullable", "title"} & schema.keys(), path


def test_every_field_is_explained() -> None:
    # The elements of a list are explained by the list.
    fields = [(path, schema) for path, schema in walk(SCHEMA) if not path.endswith("[]")]

    missing = [path for path, schema in fields if not schema.get("description")]
    assert missing == [".metadata"]
    assert all(
        len(schema["description"]) > 10 for path, schema in fields if path.startswith(".spec")
    )


def test_every_list_and_text_of_the_spec_is_bounded() -> None:
    """Without bounds the API server estimates rules in CEL as too dear, and refuses them."""
    for path, schema in walk(SCHEMA["properties"]["spec"], "spec"):
        if schema.get("type") == "array":
            assert schema["maxItems"] <= 64, path
        if schema.get("type") == "string" and "enum" not in schema:
            assert schema["maxLength"] <= 16_384, path


def test_names_columns_and_status() -> None:
    spec = crd()["spec"]

    assert spec["names"]["shortNames"] == ["frt"]
    assert [column["name"] for column in VERSION["additionalPrinterColumns"]] == [
        "Hosts", "Programmed", "Reason", "Age",
    ]  # fmt: skip
    assert VERSION["subresources"] == {"status": {}}
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (".spec.ingressClassName", "fairway"),
        (".spec.tls.redirect", True),
        (".spec.rules[].matches[].path.type", "PathPrefix"),
        (".spec.rules[].matches[].path.value", "/"),
        (".spec.rules[].backendRefs[].weight", 1),
        (".spec.rules[].filters[].redirect.code", 302),
        (".spec.rules[].retry.attempts", 1),
        (".spec.rules[].matches[].headers[].type", "Exact"),
        (".spec.rules[].matches[].queryParams[].type", "Exact"),
        (".spec.rules[].filters[].directResponse.contentType", "text/plain; charset=utf-8"),
    ],
)
def test_defaults(path: str, default: object) -> None:
    assert dict(walk(SCHEMA))[path]["default"] == default


def test_ports_are_numbers_or_names() -> None:
    port = dict(walk(SCHEMA))[".spec.rules[].backendRefs[].port"]

    assert port["x-kubernetes-int-or-string"] is True


def test_rules_in_cel_name_fields_that_exist() -> None:
    def names(kind: type[ApiStruct]) -> set[str]:
        return set(kind.__struct_encode_fields__)

    for kind in _all_structs(ApiStruct):
        for cel in kind.__cel__:
            for word in cel.rule.replace("(", " ").replace(")", " ").replace(",", " ").split():
                if word.startswith("self."):
                    assert word.split(".")[1] in names(kind), cel.rule
            assert cel.message[0].islower()
    assert RouteSpec.__cel__


def _all_structs(kind: type[ApiStruct]) -> Iterator[type[ApiStruct]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_structs(below)
