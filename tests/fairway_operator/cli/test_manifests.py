"""Files in, objects with their places out; whatever the files hold."""

import io
import os
import time
from pathlib import Path

import pytest

from fairway_operator.cli.manifests import Manifests, parse, read
from fairway_operator.cli.problems import Place
from fairway_operator.refs import Kind, ObjectRef

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"


def read_text(text: str) -> Manifests:
    return read(["-"], io.BytesIO(text.encode()))


def names(manifests: Manifests) -> list[str]:
    return [f"{ref.kind} {ref.namespace}/{ref.name}" for ref in manifests.objects]


def messages(manifests: Manifests) -> list[str]:
    return [problem.text for problem in manifests.problems]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(SERVICE, ["Service default/web"], id="the namespace is default"),
        pytest.param(
            SERVICE + "---\n" + SERVICE.replace("web", "cart"),
            ["Service default/web", "Service default/cart"],
            id="several documents",
        ),
        pytest.param(
            "---\n# nothing\n---\n" + SERVICE + "---\n", ["Service default/web"], id="empty"
        ),
        pytest.param("%YAML 1.1\n---\n" + SERVICE, ["Service default/web"], id="a directive"),
        pytest.param("\ufeff" + SERVICE, ["Service default/web"], id="a byte order mark"),
        pytest.param(SERVICE.replace("\n", "\r\n"), ["Service default/web"], id="Windows"),
        pytest.param(
            '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}',
            ["Service default/web"],
            id="JSON",
        ),
        pytest.param(
            '{"apiVersion": "v1", "kind": "List", "items": ['
            '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}},'
            '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}]}',
            ["Service default/a"],
            id="a List, as kubectl get prints it",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: a, namespace: shop}}]",
            ["Service shop/a"],
            id="a typed list, whose items have no kind",
        ),
        pytest.param(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\n"
            "metadata: {name: fairway, namespace: ignored}",
            ["IngressClass /fairway"],
            id="kinds without a namespace",
        ),
        pytest.param(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n---\n"
            "apiVersion: apps/v1\nkind: Deployment\n---\nversion: '3'\nservices: {}\n",
            [],
            id="what is not for us is ignored without a word",
        ),
        pytest.param(
            "x: &labels {app: web}\napiVersion: v1\nkind: Service\n"
            "metadata: {name: web, labels: {<<: *labels}}",
            ["Service default/web"],
            id="anchors and merges",
        ),
    ],
)
def test_objects(text: str, found: list[str]) -> None:
    manifests = read_text(text)

    assert names(manifests) == found
    assert messages(manifests) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [1", "2:1: error: did not find expected ',' or ']'", id="syntax"),
        pytest.param("\tkind: x", "1:1: error: found character that cannot start", id="a tab"),
        pytest.param("just text", "1:1: error: a manifest is a mapping, not a text", id="text"),
        pytest.param("a: &a [*a]", "1:8: error: the anchor &a holds itself", id="recursion"),
        pytest.param("a: *b", "1:4: error: no anchor &b stands before", id="an unknown anchor"),
        pytest.param("[" * 100_000, "error: nested deeper than 100 levels", id="nesting"),
        pytest.param('{"a":' * 100_000, "error: nested deeper than 100 levels", id="JSON nesting"),
        pytest.param("a: 1\nb: 2\na: 3", "3:1: error: the key 'a' stands twice", id="equal keys"),
        pytest.param('{"a": 1,\n"a": 2}', "2:1: error: the key 'a' stands twice", id="in JSON"),
        pytest.param("a: !!python/object:os.system x", "error: the tag '!!python", id="a tag"),
        pytest.param("a: .nan", "error: .nan is not a value of JSON", id="not a number"),
        pytest.param("a: 'b\x00'", "1:6: error: the control character '\\x00'", id="NUL"),
        pytest.param('{"a": "\\ud800"}', "error: a \\u escape is half", id="half a character"),
        pytest.param(
            "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}",
            "'extensions/v1beta1' has no Ingress that is read\n    write networking.k8s.io/v1",
            id="an API of the past",
        ),
        pytest.param(
            "apiVersion: networking.k8s.io/v1\nkind: ingress\nmetadata: {name: a}",
            "there is no kind 'ingress'\n    write Ingress",
            id="a kind in lower case",
        ),
        pytest.param(
            "apiVersion: fairway.dev/v1alpha1\nkind: Routes\nmetadata: {name: a}",
            "there is no kind 'Routes' in fairway.dev\n    write Route",
            id="a kind that we do not have",
        ),
        pytest.param("kind: Ingress", "apiVersion is missing or not text", id="no apiVersion"),
        pytest.param(
            "apiVersion: v1\nkind: Service\nmetadata: {name: 7}",
            "3:12: error: metadata.name: the Service has no name",
            id="a name that is a number",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Service\nmetadata: []",
            "3:1: error: metadata: the Service has none",
            id="metadata of another type",
        ),
        pytest.param(
            SERVICE + "---\n" + SERVICE,
            "5:1: warning: Service default/web: stands at <stdin>:1:1 as well",
            id="one name twice",
        ),
    ],
)
def test_mistakes_have_a_place_and_a_word_on_what_to_write(text: str, message: str) -> None:
    (found,) = messages(read_text(text))

    assert message in found


def test_a_mistake_costs_its_document_only() -> None:
    manifests = read_text(SERVICE + "---\na: [\n---\n" + SERVICE.replace("web", "cart"))

    assert names(manifests) == ["Service default/web", "Service default/cart"]
    assert len(manifests.problems) == 1


def test_anchors_that_explode_cost_no_memory_and_no_time() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.process_time()

    (found,) = messages(read_text("\n".join(lines)))

    assert "aliases expand to more than" in found
    assert time.process_time() - began < 2


def test_scalars_are_read_as_kubectl_reads_them() -> None:
    text = (
        SERVICE + "spec: {a: yes, b: 010, c: 12:30, d: 2024-01-01, e: 1_000, f: 1.5, g: ~, 1: x}\n"
    )
    (manifest,) = parse("f", text).manifests

    assert manifest.body["spec"] == {
        "a": True,
        "b": 8,
        "c": "12:30",
        "d": "2024-01-01",
        "e": 1000,
        "f": 1.5,
        "g": None,
        "1": "x",
    }


def test_each_field_knows_its_line() -> None:
    text = "\n\n---\n" + SERVICE + "spec:\n  ports:\n    - port: 80\n    - port: 81\n"
    (manifest,) = parse("web.yaml", text).manifests

    assert str(manifest.place("spec.ports[1].port")) == "web.yaml:10:7"
    assert str(manifest.place("spec.ports[1].nothing")) == "web.yaml:10:7"
    assert str(manifest.place("spec.ports[7]")) == "web.yaml:8:3"
    assert str(manifest.place("metadata.annotations[a.b/c]")) == "web.yaml:6:1"
    assert str(manifest.place()) == "web.yaml:4:1"


def test_items_of_a_list_know_their_lines() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n"
        "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n"
    )
    (manifest,) = parse("all.yaml", text).manifests

    assert str(manifest.place("metadata.name")) == "all.yaml:7:5"


def test_folders_are_searched_for_manifests_alone(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for file in (
        "a.yaml",
        "deep/b.yml",
        "deep/deeper/c.json",
        "notes.txt",
        ".hidden.yaml",
        ".git/x.yaml",
    ):
        name = Path(file).name.strip(".").partition(".")[0]
        (tmp_path / file).write_text(SERVICE.replace("web", name))
    os.mkfifo(tmp_path / "pipe.yaml")
    manifests = read([str(tmp_path)], io.BytesIO())

    assert names(manifests) == ["Service default/a", "Service default/b", "Service default/c"]
    assert messages(manifests) == []


def test_files_that_cannot_be_read_cost_no_other_file(tmp_path: Path) -> None:
    good, latin, large = (tmp_path / f"{name}.yaml" for name in ("good", "latin", "large"))
    good.write_text(SERVICE)
    latin.write_bytes(SERVICE.encode() + b"# caf\xe9\n")
    with large.open("wb") as file:
        file.truncate(50 * 1024 * 1024)
    (tmp_path / "dangling.yaml").symlink_to("nowhere")

    manifests = read([str(tmp_path), str(tmp_path / "missing.yaml")], io.BytesIO())

    assert names(manifests) == ["Service default/web"]
    assert sorted(messages(manifests)) == [
        f"{tmp_path}/dangling.yaml: error: cannot be read: No such file or directory",
        f"{tmp_path}/large.yaml: error: is larger than 16 MiB\n    split it into several files",
        f"{tmp_path}/latin.yaml:4:6: error: the byte 0xe9 is not UTF-8\n    save the file as UTF-8",
        f"{tmp_path}/missing.yaml: error: cannot be read: No such file or directory",
    ]


def test_what_is_said_of_a_name_is_no_order_to_a_terminal(tmp_path: Path) -> None:
    """Whoever reads a stranger's manifests reads their names, too."""
    hostile = 'apiVersion: v1\nkind: Service\nmetadata: {name: "web\\e]0;x\\a"}\n'
    (tmp_path / "a\n\x1b[2J.yaml").write_text(f"{hostile}---\n{hostile}")

    (said,) = messages(read([str(tmp_path)], io.BytesIO()))

    assert all(line.isprintable() for line in said.split("\n"))
    assert r"a\n\x1b[2J.yaml:5:1: warning: Service default/web\x1b]0;x\x07: stands at" in said


def test_ten_thousand_objects_load_in_a_few_seconds(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("---\n".join(SERVICE.replace("web", f"web-{n}") for n in range(10_000)))
    began = time.process_time()

    manifests = read([str(file)], io.BytesIO())

    assert len(manifests.objects) == 10_000
    assert time.process_time() - began < 10
    ref = ObjectRef(Kind.SERVICE, "default", "web-9999")
    assert str(manifests.place(ref, "metadata.name")) == f"{file}:39999:12"


def test_a_template_is_told_to_be_rendered_first() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n"

    (problem,) = parse("service.yaml", text).problems

    assert (problem.place, problem.reason) == (Place("service.yaml", 4, 10), "Syntax")
    assert "helm template" in problem.hint
