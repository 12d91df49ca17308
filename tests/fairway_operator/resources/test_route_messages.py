"""What the author of a Route reads when its spec does not fit: the field, and what to write."""

from typing import Any

import pytest

from fairway_operator.findings import Finding
from fairway_operator.refs import Kind
from fairway_operator.resources import Undecodable, decode

REFS = {"backendRefs": [{"name": "a", "port": 80}]}


def finding_of(spec: Any) -> Finding:
    found = decode(Kind.ROUTE, {"metadata": {"name": "r"}, "spec": spec})
    assert isinstance(found, Undecodable)
    (finding,) = found.findings
    return finding


def rule(**fields: Any) -> dict[str, Any]:
    return {"rules": [REFS | fields]}


@pytest.mark.parametrize(
    ("spec", "field", "hint"),
    [
        pytest.param(
            rule(matches=[{"path": {"type": "Prefix"}}]),
            "spec.rules[0].matches[0].path.type",
            "write Exact, PathPrefix or RegularExpression; ",
            id="an enum names its values",
        ),
        pytest.param(
            rule(matches=[{"method": "get"}]),
            "spec.rules[0].matches[0].method",
            "write GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH; ",
            id="a method",
        ),
        pytest.param(
            {"rules": [{"filters": [{"redirect": {"scheme": "ftp"}}]}]},
            "spec.rules[0].filters[0].redirect.scheme",
            "write http or https; ",
            id="two values",
        ),
        pytest.param(
            rule() | {"hosts": ["a.example", "Shop.Example"]},
            "spec.hosts[1]",
            "write a name such as shop.example or *.shop.example, in lower case; ",
            id="a pattern says what to write",
        ),
        pytest.param(
            rule(timeouts={"request": "10"}),
            "spec.rules[0].timeouts.request",
            "write a duration such as 500ms, 30s or 1m30s",
            id="a duration",
        ),
        pytest.param(
            {"rules": [{"backendReffs": []}]}, "spec.rules[0]", "write backendRefs; ", id="a typo"
        ),
        pytest.param(
            {"rules": [{"filters": [{"foo": {}}]}]},
            "spec.rules[0].filters[0]",
            "write directResponse, redirect, requestHeaders,",
            id="a field from nowhere",
        ),
        pytest.param(
            {"rules": [{"backendRefs": [{"name": "a"}]}]},
            "spec.rules[0].backendRefs[0]",
            "kubectl explain route.spec.rules.backendRefs",
            id="a missing field",
        ),
        pytest.param("x", "spec", "kubectl explain route.spec", id="no object"),
    ],
)
def test_a_message_names_the_field_and_what_to_write(spec: Any, field: str, hint: str) -> None:
    finding = finding_of(spec)

    assert finding.field == field
    assert finding.hint.startswith(hint)
    assert "kubectl explain route.spec" in finding.hint


def test_a_value_of_the_wrong_form_is_shown() -> None:
    assert "'Shop.Example'" in finding_of(rule() | {"hosts": ["Shop.Example"]}).message


def test_values_of_headers_are_not_repeated() -> None:
    token = {"name": "authorization", "value": "Bearer t0ken\n"}

    finding = finding_of(rule(filters=[{"requestHeaders": {"set": [token]}}]))

    assert finding.field == "spec.rules[0].filters[0].requestHeaders.set[0].value"
    assert "t0ken" not in finding.message + finding.hint
    assert "write one line of printable ASCII" in finding.hint
