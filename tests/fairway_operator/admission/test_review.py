"""What is refused, what is warned of, and what is none of our business."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.admission.review import REFUSED_FOR, BadReviewError, decode_review
from fairway_operator.findings import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fairway_operator.admission.conftest import Clusters, Objects, Questions

Body = dict[str, Any]


def annotated(name: str, value: str) -> dict[str, Any]:
    return {"annotations": {f"fairway.dev/{name}": value}}


def foreign(name: str, value: str) -> dict[str, Any]:
    return {"annotations": {f"nginx.ingress.kubernetes.io/{name}": value}}


BROKEN: list[Any] = [
    pytest.param(
        lambda o: o.ingress("web", "relative"),
        "spec.rules[0].http.paths[0].path: 'relative' is not an absolute path (write it as /name)",
        id="a path of an Ingress",
    ),
    pytest.param(
        lambda o: o.ingress("web", "/", host="*.*.example"),
        "spec.rules[0].host: '*.*.example' has an asterisk that is not its whole first label"
        " (write a name such as shop.example or *.shop.example)",
        id="H6 a host",
    ),
    pytest.param(
        lambda o: o.ingress("web", "/", **annotated("request-timeout", "soon")),
        "metadata.annotations[fairway.dev/request-timeout]: ",
        id="an annotation",
    ),
    pytest.param(
        lambda o: o.ingress("web", "/", **foreign("auth-url", "https://auth.example")),
        "metadata.annotations[nginx.ingress.kubernetes.io/auth-url]: there is no external"
        " authentication here",
        id="access that would not be restricted",
    ),
    pytest.param(
        lambda o: o.ingress("web", "/", **foreign("canary", "true")),
        "metadata.annotations[nginx.ingress.kubernetes.io/canary]: a canary only modifies",
        id="a canary of another controller",
    ),
    pytest.param(
        lambda o: o.route("web", o.rule("/(", kind="RegularExpression")),
        "spec.rules[0].matches[0].path.value: the regular expression is not taken: ",
        id="a regular expression",
    ),
    pytest.param(
        lambda o: o.route("web", o.rule(r"/(a)\1", kind="RegularExpression")),
        "spec.rules[0].matches[0].path.value: ",
        id="a backreference, which re2 has not",
    ),
    pytest.param(
        lambda o: o.route("web", o.rule("/", {"requestHeaders": {}, "responseHeaders": {}})),
        "spec.rules[0].filters[0]: a filter with 2 fields; the rule answers 503"
        " (write exactly one in each)",
        id="a filter",
    ),
    pytest.param(
        lambda o: o.route("web", {"matches": [{"path": {"value": "/"}}], "backendRefs": []}),
        "spec.rules[0]: the rule has neither backends nor a filter that answers",
        id="a rule that leads nowhere",
    ),
    pytest.param(
        lambda o: o.route("web", o.rule("/")) | {"spec": {"ingressClassName": "fairway", "x": 1}},
        "spec",
        id="a spec that the API of this version does not have",
    ),
]


@pytest.mark.parametrize(("build", "line"), BROKEN)
def test_what_cannot_compile_is_refused_with_field_message_and_hint(
    clusters: Clusters,
    objects: Objects,
    ask: Questions,
    build: Callable[[Objects], Body],
    line: str,
) -> None:
    request = ask(build(objects))

    response = ask.response(request, clusters().judge(request))

    assert response["uid"] == request.uid
    assert response["allowed"] is False
    status = response["status"]
    assert (status["code"], status["reason"], status["status"]) == (422, "Invalid", "Failure")
    assert status["message"].startswith(line)
    assert "\n" not in status["message"]
    (cause,) = status["details"]["causes"]
    assert status["message"] == f"{cause['field']}: {cause['message']}"


def test_each_error_has_a_line_of_its_own(clusters: Clusters, objects: Objects) -> None:
    verdict = clusters().create(objects.ingress("web", "one", "/fine", "two"))

    fields = [error.field for error in verdict.errors]

    assert fields == ["spec.rules[0].http.paths[0].path", "spec.rules[0].http.paths[2].path"]
    assert verdict.word == "refused"


def test_a_resource_backend_is_refused_politely(clusters: Clusters, objects: Objects) -> None:
    """S11 of the catalogue: valid for the API, and nothing that could ever be served."""
    body = objects.ingress("web", "/")
    path = body["spec"]["rules"][0]["http"]["paths"][0]
    path["backend"] = {"resource": {"apiGroup": "k8s.example", "kind": "Bucket", "name": "a"}}

    (error,) = clusters().create(body).errors

    assert error.reason == "UnsupportedBackend"
    assert "write service" in error.hint


NOT_OURS: list[Any] = [
    pytest.param(lambda o: o.ingress("web", "bad", cls="other"), {}, id="another class"),
    pytest.param(lambda o: o.ingress("web", "bad", cls=None), {}, id="no class"),
    pytest.param(
        lambda o: (
            o.route("web") | {"spec": {"ingressClassName": "other", "rules": "as they like it"}}
        ),
        {},
        id="another class, unreadable",
    ),
    pytest.param(
        lambda o: o.ingress("web", "bad"),
        {"operation": "DELETE", "object": None},
        id="a deletion",
    ),
    pytest.param(lambda o: o.ingress("web", "bad"), {"operation": "CONNECT"}, id="no change"),
    pytest.param(lambda o: o.ingress("web", "bad"), {"subResource": "status"}, id="a status"),
    pytest.param(
        lambda o: o.ingress("web", "bad"),
        {"kind": {"group": "extensions", "version": "v1beta1", "kind": "Ingress"}},
        id="an API of the past",
    ),
    pytest.param(
        lambda o: o.ingress("web", "bad"),
        {"kind": {"group": "", "version": "v1", "kind": "Pod"}},
        id="another kind",
    ),
]


@pytest.mark.parametrize(("build", "fields"), NOT_OURS)
def test_what_is_not_ours_is_allowed_without_a_word(
    clusters: Clusters,
    objects: Objects,
    ask: Questions,
    build: Callable[[Objects], Body],
    fields: Body,
) -> None:
    request = ask(build(objects), **fields)

    response = ask.response(request, clusters().judge(request))

    assert response == {"uid": request.uid, "allowed": True}


def test_a_class_is_ours_by_its_controller_and_not_by_its_name(
    clusters: Clusters, objects: Objects
) -> None:
    foreign = {
        "kind": "IngressClass",
        "metadata": {"name": "fairway"},
        "spec": {"controller": "example.com/other"},
    }

    assert clusters(foreign).create(objects.ingress("web", "bad")).word == "allowed"


def test_an_object_without_a_class_is_reviewed_where_those_are_served(
    clusters: Clusters, objects: Objects
) -> None:
    cluster = clusters(watch_without_class=True)

    assert cluster.create(objects.ingress("web", "bad", cls=None)).word == "refused"


def test_a_namespace_that_is_not_served_is_left_alone(
    clusters: Clusters, objects: Objects, ask: Questions
) -> None:
    request = ask(objects.ingress("web", "bad"))

    assert clusters().judge(request, namespaces=("blog",)).word == "allowed"
    assert clusters().judge(request, namespaces=("blog", "shop")).word == "refused"


@pytest.mark.parametrize(
    ("labels", "before", "word"),
    [
        pytest.param({"team": "blog"}, None, "allowed", id="not selected"),
        pytest.param({}, None, "allowed", id="without labels"),
        pytest.param({"team": "shop"}, None, "refused", id="selected"),
        pytest.param({"team": "shop"}, {"team": "shop"}, "allowed", id="as bad as before"),
        pytest.param({"team": "shop"}, {"team": "blog"}, "refused", id="selected from now on"),
        pytest.param({"team": "blog"}, {"team": "shop"}, "allowed", id="no longer selected"),
    ],
)
def test_objects_that_are_not_watched_for_their_labels_are_nobodys(  # noqa: PLR0917 - columns of the table
    clusters: Clusters,
    objects: Objects,
    ask: Questions,
    labels: dict[str, str],
    before: dict[str, str] | None,
    word: str,
) -> None:
    body = objects.ingress("web", "bad", labels=labels)
    old = None if before is None else objects.ingress("web", "bad", labels=before)

    assert clusters().judge(ask(body, old), labels="team in (shop, cart)").word == word


def test_what_does_not_exist_yet_is_warned_of_and_not_refused(
    clusters: Clusters, objects: Objects, ask: Questions
) -> None:
    request = ask(objects.ingress("web", "/", backend="later", tls="later-tls"))

    response = ask.response(request, clusters().judge(request))

    assert response["allowed"] is True
    tls, service = response["warnings"]
    assert tls == (
        "spec.tls[0].secretName: there is no Secret 'later-tls' in namespace 'shop';"
        " the default certificate is served"
        " (create the Secret, of type kubernetes.io/tls, or correct the name)"
    )
    assert service == (
        "spec.rules[0].http.paths[0].backend.service.name: there is no Service 'later' in"
        " namespace 'shop'; its requests answer 503 (create the Service or correct the name)"
    )


def test_a_reference_that_no_grant_permits_is_warned_of(
    clusters: Clusters, objects: Objects
) -> None:
    rule = objects.rule("/")
    rule["backendRefs"][0]["namespace"] = "bank"

    verdict = clusters().create(objects.route("web", rule))

    assert verdict.allowed
    (warning,) = verdict.warnings
    assert "no ReferenceGrant in namespace 'bank'" in warning


def test_a_misspelt_annotation_is_warned_of(clusters: Clusters, objects: Objects) -> None:
    verdict = clusters().create(objects.ingress("web", "/", **annotated("reqest-timeout", "1s")))

    assert verdict.allowed
    (warning,) = verdict.warnings
    assert warning.startswith("metadata.annotations[fairway.dev/reqest-timeout]: there is no ")


@pytest.mark.parametrize(
    ("old", "name"),
    [
        pytest.param("ingress", "Ingress blog/old", id="with an Ingress"),
        pytest.param("route", "Route blog/old", id="with a Route"),
    ],
)
def test_x1_a_conflict_is_warned_of_with_the_name_of_the_other(
    clusters: Clusters, objects: Objects, old: str, name: str
) -> None:
    bodies = {
        "ingress": objects.ingress("blog/old", "/a", creationTimestamp="2026-01-01T00:00:00Z"),
        "route": objects.route(
            "blog/old", objects.rule("/a"), creationTimestamp="2026-01-01T00:00:00Z"
        ),
    }

    verdict = clusters(bodies[old]).create(objects.ingress("new", "/a", "/b"))

    assert verdict.allowed
    (warning,) = verdict.warnings
    what = "spec.rules[0].http.paths[0]: PathPrefix /a of a.example"
    assert warning.startswith(f"{what} belongs to {name}, which is older")


def test_x1_whoever_takes_something_away_hears_from_whom(
    clusters: Clusters, objects: Objects
) -> None:
    before = objects.ingress("old", "/b", creationTimestamp="2026-01-01T00:00:00Z")
    after = objects.ingress("old", "/b", "/a", creationTimestamp="2026-01-01T00:00:00Z")
    cluster = clusters(before, objects.ingress("blog/young", "/a"))

    verdict = cluster.update(before, after)

    assert verdict.allowed
    (warning,) = verdict.warnings
    assert warning.startswith("this takes from Ingress blog/young: PathPrefix /a of a.example")


def test_x1_what_was_taken_long_ago_is_not_told_again(clusters: Clusters, objects: Objects) -> None:
    before = objects.ingress("old", "/a", creationTimestamp="2026-01-01T00:00:00Z")
    after = objects.ingress("old", "/a", "/b", creationTimestamp="2026-01-01T00:00:00Z")
    cluster = clusters(before, objects.ingress("blog/young", "/a"))

    assert cluster.update(before, after).word == "allowed"


def test_an_object_is_in_no_conflict_with_its_own_last_version(
    clusters: Clusters, objects: Objects
) -> None:
    before = objects.ingress("web", "/a")

    verdict = clusters(before).update(before, objects.ingress("web", "/a", "/b"))

    assert verdict.word == "allowed"


def test_the_same_path_twice_is_warned_of(clusters: Clusters, objects: Objects) -> None:
    verdict = clusters().create(objects.ingress("web", "/a", "/a"))

    assert verdict.allowed
    (warning,) = verdict.warnings
    assert "is there twice" in warning


def test_a_change_of_status_labels_or_finalizers_is_never_held_up(
    clusters: Clusters, objects: Objects
) -> None:
    before = objects.ingress("web", "bad")
    after = objects.ingress("web", "bad", labels={"a": "b"}, deletionTimestamp="2026-06-02")
    after["status"] = {"loadBalancer": {}}

    assert clusters().update(before, after).word == "allowed"


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        pytest.param(["x", "y"], ["y"], "warned", id="less wrong"),
        pytest.param(["x", "y"], ["/new", "x", "y"], "warned", id="as wrong, at other places"),
        pytest.param(["x", "y"], ["/"], "allowed", id="right"),
        pytest.param(["x"], ["x", "y"], "refused", id="more wrong"),
        pytest.param(["x"], ["x", "x"], "refused", id="twice as wrong"),
        pytest.param(["x"], ["y"], "refused", id="wrong in another way"),
        pytest.param(["/"], ["x"], "refused", id="wrong for the first time"),
    ],
)
def test_what_is_broken_already_may_change_and_not_get_worse(
    clusters: Clusters, objects: Objects, before: list[str], after: list[str], word: str
) -> None:
    old, new = objects.ingress("web", *before), objects.ingress("web", *after)

    assert clusters().update(old, new).word == word


def test_the_errors_that_remain_are_warnings(clusters: Clusters, objects: Objects) -> None:
    verdict = clusters().update(objects.ingress("web", "x", "y"), objects.ingress("web", "x"))

    assert verdict.warnings == (
        "spec.rules[0].http.paths[0].path: 'x' is not an absolute path (write it as /name)",
    )


def test_an_unreadable_object_may_become_a_readable_one_with_errors(
    clusters: Clusters, objects: Objects
) -> None:
    before = objects.route("web") | {"spec": {"ingressClassName": "fairway", "rules": 1}}
    after = objects.route("web", objects.rule("/(", kind="RegularExpression"))

    assert clusters().update(before, after).word == "warned"


def test_an_object_that_moves_into_our_class_is_held_to_all_of_it(
    clusters: Clusters, objects: Objects
) -> None:
    before, after = objects.ingress("web", "bad", cls="other"), objects.ingress("web", "bad")

    assert clusters().update(before, after).word == "refused"


def test_a_name_that_the_api_server_will_make_is_no_mistake(
    clusters: Clusters, objects: Objects
) -> None:
    body = objects.ingress("web", "/")
    body["metadata"] = {"generateName": "web-", "namespace": "shop"}

    assert clusters().create(body).word == "allowed"


def test_long_stories_are_cut_to_what_the_api_server_takes(
    clusters: Clusters, objects: Objects, ask: Questions
) -> None:
    request = ask(
        objects.ingress("web", *(f"bad-{at}-" + "x" * 300 for at in range(50))) | {"status": None}
    )

    status = ask.response(request, clusters().judge(request))["status"]
    lines = status["message"].splitlines()

    assert lines[-1] == "and 30 more"
    assert len(lines) == 21
    assert len(status["details"]["causes"]) == 20
    assert max(map(len, lines)) <= 1024


def test_many_warnings_stay_below_the_limits_of_the_api_server(
    clusters: Clusters, objects: Objects
) -> None:
    """256 characters for each and 4096 for all (``truncateWarnings`` of the API server)."""
    body = objects.ingress("web", *(f"/{at}-" + "x" * 300 for at in range(50)), backend="later")

    warnings = clusters().create(body).warnings

    assert warnings[-1] == "and 35 more"
    assert max(map(len, warnings)) <= 256
    assert sum(map(len, warnings)) <= 4096


def test_no_line_can_be_forged(clusters: Clusters, objects: Objects, ask: Questions) -> None:
    request = ask(objects.ingress("web", "/", **annotated("x\nspec: all is well\r\x1b[2J", "1")))

    response = ask.response(request, clusters().judge(request))

    assert all(text.isprintable() for text in response["warnings"])


def test_two_answers_to_one_question_are_equal(
    clusters: Clusters, objects: Objects, ask: Questions
) -> None:
    bodies = [objects.ingress(f"blog/{name}", "/a") for name in "abcdef"]
    request = ask(objects.ingress("web", "/a", backend="later", tls="later"))

    answers = {
        json.dumps(ask.response(request, clusters(*order).judge(request)))
        for order in (bodies, bodies[::-1])
    }

    assert len(answers) == 1


def test_a_review_leaves_no_trace(clusters: Clusters, objects: Objects) -> None:
    old = objects.ingress("blog/old", "/a")
    asked, fresh = clusters(old), clusters(old)

    for body in (objects.ingress("web", "/a", "/b"), objects.ingress("blog/old", "bad")):
        asked.create(body)

    question = objects.ingress("new", "/a", "/b")
    assert asked.create(question) == fresh.create(question)


@pytest.mark.parametrize(
    "crowd",
    [
        pytest.param("paths", id="thousands of paths that lead nowhere"),
        pytest.param("errors", id="thousands of errors"),
        pytest.param("sections", id="thousands of TLS sections and hosts"),
        pytest.param("conflicts", id="thousands of conflicts"),
    ],
)
def test_an_object_of_a_megabyte_takes_no_time_to_speak_of(
    clusters: Clusters, objects: Objects, ask: Questions, crowd: str
) -> None:
    """It took 25 s when anything was compared with everything else of its object."""
    names = [f"h{at}.example" for at in range(3000)]
    body = objects.ingress("web")
    match crowd:
        case "paths" | "conflicts":
            body = objects.ingress("web", *(f"/{at}" for at in range(6000)), backend="later")
        case "errors":
            body = objects.ingress("web", *(f"{at}" for at in range(6000)))
        case _:
            body["spec"]["rules"] = [
                {"host": name, "http": objects.ingress("web", "/")["spec"]["rules"][0]["http"]}
                for name in names
            ]
            body["spec"]["tls"] = [{"hosts": [f"*.{name}"], "secretName": name} for name in names]
    others = []
    if crowd == "conflicts":
        others = [body | {"metadata": objects.metadata(f"blog/{name}")} for name in "ab"]
    cluster = clusters(*others)
    request = ask(body)
    started = time.process_time()

    verdict = cluster.judge(request)

    assert time.process_time() - started < 15
    assert verdict.word == ("refused" if crowd == "errors" else "warned")


def review_of(**request: Any) -> bytes:
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(body).encode()


INGRESS = {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}
FINE: Body = {"uid": "1", "kind": INGRESS, "operation": "CREATE"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        review_of(**FINE).replace(b"k8s.io/v1", b"k8s.io/v1beta1"),
        review_of(**FINE).replace(b"AdmissionReview", b"Status"),
        review_of(**FINE | {"uid": ""}),
        review_of(**FINE | {"uid": 1}),
        review_of(**FINE | {"object": []}),
        review_of(**FINE | {"kind": "Ingress"}),
        review_of(kind=INGRESS, operation="CREATE"),
    ],
)
def test_what_is_no_review_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(BadReviewError, match=r"^not an AdmissionReview of admission\.k8s\.io/v1: "):
        decode_review(body)


def test_every_reason_is_either_the_objects_own_or_not() -> None:
    """A new reason belongs into one of the two; whoever adds it decides here."""
    depends_on_others = {
        Reason.UNKNOWN_ANNOTATION,  # a warning: another version of us may know it
        Reason.UNSUPPORTED_PROTOCOL,
        Reason.UNSUPPORTED_PARAMETERS,
        Reason.NO_ROUTES,
        Reason.UNKNOWN_SERVICE,
        Reason.UNKNOWN_PORT,
        Reason.UNKNOWN_CLASS,
        Reason.UNKNOWN_SECRET,
        Reason.REF_NOT_PERMITTED,
        Reason.ADDRESS_NOT_PERMITTED,
        Reason.INVALID_CERTIFICATE,
        Reason.HOST_NOT_COVERED,
        Reason.CONFLICT,
        Reason.LAST_GOOD_SERVED,
        Reason.INTERNAL_ERROR,  # our fault and not the author's
    }

    assert set(Reason) == REFUSED_FOR | depends_on_others
    assert not REFUSED_FOR & depends_on_others
