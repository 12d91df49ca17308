"""What the commands that need no cluster print about the examples, word for word."""

import json
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from fairway_operator.cli.main import app

ROOT = Path(__file__).parents[3]


def fairway(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin, catch_exceptions=False)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("compile-quickstart", "compile -f examples/quickstart", 0),
        ("compile-quickstart-json", "compile -f examples/quickstart -o json", 0),
        ("compile-redirect-yaml", "compile -f examples/redirect -o yaml", 0),
        ("validate-nginx", "validate -f examples/nginx-ingress", 0),
        ("validate-nginx-json", "validate -f examples/nginx-ingress -o json", 0),
        ("validate-migration", "validate -f tests/fairway_operator/cli/nginx", 1),
        ("validate-broken", "validate -f tests/fairway_operator/cli/broken", 1),
        ("validate-broken-json", "validate -f tests/fairway_operator/cli/broken -o json", 1),
        ("explain-exact", "explain http://shop.localhost/healthz -f examples/quickstart", 0),
        (
            "explain-weights-json",
            "explain https://pay.localhost/checkout/1 -X POST -o json -f examples/quickstart",
            0,
        ),
        ("explain-tls", "explain http://account.localhost/ -f examples/quickstart", 0),
        (
            "explain-canary",
            "explain http://search.localhost/ -H x-canary:2 -f examples/canary",
            0,
        ),
        (
            "explain-closed",
            "explain http://login.example/ -f tests/fairway_operator/cli/nginx/login.yaml",
            1,
        ),
        (
            "explain-rewrite",
            (
                "explain http://rewrite.example/something/x"
                " -f tests/fairway_operator/cli/nginx/rewrite.yaml"
            ),
            1,
        ),
        ("explain-no-host", "explain http://nowhere.localhost/ -f examples/quickstart", 0),
        ("explain-encoded-slash", "explain http://shop.localhost/a%2Fb -f examples/quickstart", 0),
        ("explain-bad-path", "explain http://shop.localhost/%zz -f examples/quickstart", 0),
        ("explain-direct", "explain http://old.localhost/robots.txt -f examples/redirect", 0),
        ("diff", "diff -f examples/quickstart -f examples/canary", 0),
        ("diff-same", "diff -f examples/canary -f examples/canary", 0),
        ("diff-json", "diff -f examples/canary -f examples/redirect -o json", 0),
    ],
)
def test_output(name: str, arguments: str, status: int, golden: Callable[[str, str], None]) -> None:
    result = fairway(*arguments.split())

    text = f"$ fairway {arguments}\n{result.stdout}"
    if result.stderr:
        text += f"--- stderr\n{result.stderr}"
    assert result.exit_code == status
    golden(name, re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<digest>", text))


def test_the_machine_forms_say_the_same() -> None:
    as_json = json.loads(fairway("compile", "-f", "examples/quickstart", "-o", "json").stdout)
    as_yaml = yaml.safe_load(fairway("compile", "-f", "examples/quickstart", "-o", "yaml").stdout)

    assert as_json == as_yaml


def test_no_command_prints_a_key(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: account-tls, namespace: shop}\n"
        "type: kubernetes.io/tls\nstringData: {tls.crt: nothing, tls.key: TOPSECRET}\n"
    )
    for command in ("compile", "validate"):
        result = fairway(command, "-f", "examples/quickstart", "-f", str(secret), "-o", "json")

        assert "TOPSECRET" not in result.output
        assert "VE9QU0VDUkVU" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        "validate",
        "dev",
        "diff -f examples/quickstart",
        "explain shop.localhost -f examples/quickstart",
        "explain http://a/ -H nonsense -f examples/quickstart",
        "explain http://a/ --client-ip nobody -f examples/quickstart",
        "compile -f examples/quickstart -o toml",
        "dev -f examples/quickstart --http-port 99999",
        "nonsense",
        "dataplane --nonsense 1",
        "dataplane --workers none",
        "operator --settle-seconds soon",
    ],
)
def test_wrong_usage_is_status_2(arguments: str) -> None:
    ran = fairway(*arguments.split())

    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert ran.stderr


@pytest.mark.parametrize(
    "command",
    ["dev", "compile", "validate", "explain", "diff", "status", "version", "operator", "dataplane"],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = fairway(command, "--help")

    assert shown.exit_code == 0
    assert "Example: " in shown.stdout


def test_help_is_quick() -> None:
    before = worked_seconds_of_children()
    shown = subprocess.run(
        [sys.executable, "-c", "from fairway_operator.cli.main import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "dev" in shown.stdout
    # 0.1 s where this was written. What it worked is counted and not how long it took: a busy
    # machine takes its time.
    assert worked_seconds_of_children() - before < 1.0


def worked_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("dataplane", {"yaml", "kopf", "kubernetes", "watchfiles", "rpds"}),
        ("operator", {"uvloop", "httptools", "watchfiles"}),
    ],
)
def test_a_program_needs_its_own_extra_only(command: str, needless: set[str]) -> None:
    code = (
        "import sys; import fairway_operator.cli.main;"
        f"import fairway_operator.cli.{command};"
        "print(' '.join(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert needless.isdisjoint(loaded.stdout.split())


class Operator(BaseHTTPRequestHandler):
    """The admin port of an operator with many findings."""

    def do_GET(self) -> None:
        pages = {
            "/readyz": "ok\n",
            "/debug/snapshot": {"root": "4f1c9a"},
            "/debug/subscribers": [],
            "/debug/routes": [],
            "/debug/outbox": {"pending": []},
            "/debug/findings": {
                f"Ingress shop/i{at:02}": [
                    {"severity": severity, "field": "spec", "message": "told", "hint": "write this"}
                    for severity in ("info", "warning", "error")
                ]
                for at in range(40)
            },
        }
        page = pages[self.path]
        body = page.encode() if isinstance(page, str) else json.dumps(page).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_status_shows_errors_first_with_what_to_write_and_not_all_of_many() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Operator) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        result = fairway("status", "--admin", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        serving.join()

    lines = result.stdout.splitlines()
    told = [line for line in lines if line.startswith(("error", "warning", "info"))]
    assert told[0] == "error: Ingress shop/i00: spec: told"
    assert [line.partition(":")[0] for line in told] == ["error"] * 40 + ["warning"] * 10
    assert lines[lines.index(told[0]) + 1] == "    write this"
    assert lines[-1] == "and 30 more; -o json prints all of them"


def test_status_says_when_nobody_answers() -> None:
    result = fairway("status", "--admin", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "http://127.0.0.1:1 does not answer" in result.stderr
    assert "--admin" in result.stderr


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-x\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", id="cut short"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n[1,2]", id="another program"),
    ],
)
def test_status_says_when_somebody_else_answers(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        result = fairway("status", "--admin", f"http://127.0.0.1:{port}")
        serving.join()

    assert result.exit_code == 1
    assert f"http://127.0.0.1:{port} does not answer: " in result.stderr
