"""``fairway dev`` as a newcomer meets it: real files, a real process, real requests."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairway_operator.cli.dev.machine import STOP_SECONDS
from fairway_operator.cli.main import app

Dev = Any
"""A ``Dev`` of conftest."""
StartDev = Callable[..., Dev]


def test_the_routes_are_there_in_seconds_and_the_printed_commands_work(
    start_dev: StartDev, folder: Path
) -> None:
    began = time.monotonic()
    dev = start_dev("-f", str(folder)).ready()
    dev.wait_for("Ctrl-C ends")
    assert time.monotonic() - began < 45  # 2 s on a machine that has nothing else to do

    commands = [line for line in dev.lines if line.startswith("curl ")]
    assert len(commands) == 5
    for command in commands:
        shown = subprocess.run(
            [*shlex.split(command), "-s", "-i"], capture_output=True, text=True, check=True
        )
        assert shown.stdout.startswith("HTTP/1.1 200"), (command, shown.stdout)
        assert "x-echo-backend: shop/" in shown.stdout.lower()
    assert dev.stop() == 0


def test_edits_go_live_within_time_and_no_request_fails(live: Dev, folder: Path) -> None:
    load = Load(live.port)
    load.start()
    file = folder / "shop.yaml"
    text = file.read_text()
    seconds = []
    for number in range(50):
        path = f"/edit-{number}"
        save(file, text.replace("/healthz", path).replace("Exact\n", EXACT_TO_CART), how=number % 3)
        seconds.append(live.eventually(lambda path=path: "shop/cart:80" in live.get(HOST, path)[1]))
        # Said a moment after it is true, and together with the next one if that comes before.
        live.wait_for(rf"\+ route shop\.localhost = {path} ")
    counts = load.stop()

    assert set(counts) == {200}, counts
    assert counts[200] >= 50, "at least one for each edit"
    # The promise is 200 ms for the 99th percentile; this machine may be busy with other things.
    # By the rescans alone, which need no news of files, each would take about two seconds.
    assert statistics.median(seconds) < 1.0, sorted(seconds)
    assert len(re.findall(r" live in \d+ ms  ", live.output)) >= 50


HOST = "shop.localhost"
# Gives the path above the backend that no other path of its kind has.
EXACT_TO_CART = (
    "Exact\n            backend: {service: {name: cart, port: {number: 80}}}\n"
    "          - path: /rest\n            pathType: Exact\n"
)


BROKEN = {
    "syntax": ("spec:\n  ingressClassName", "spec:\n\tingressClassName"),
    "wrong-type": ("port: {name: http}", "port: {number: eighty}"),
    "unknown-port": ("port: {name: http}", "port: {number: 8080}"),
    "missing-service": ("name: cart, port: {name", "name: crat, port: {name"),
    "old-api": ("networking.k8s.io/v1\n", "extensions/v1beta1\n"),
    "equal-keys": ("pathType: Exact\n", "pathType: Exact\n            pathType: Prefix\n"),
}


def test_a_broken_edit_says_what_to_write_and_the_last_good_state_serves(
    live: Dev, folder: Path, golden: Callable[[str, str], None]
) -> None:
    file = folder / "shop.yaml"
    good = file.read_text()
    load = Load(live.port)
    load.start()
    for name, (old, new) in BROKEN.items():
        assert old in good
        seen = len(live.lines)
        file.write_text(good.replace(old, new, 1))
        live.wait_for("not applied", after=seen)

        said = [line for line in live.lines[seen:] if "not applied" not in line]
        golden(f"dev-{name}", "\n".join(said).replace(str(file), "FILE") + "\n")
        assert live.lines[-1] == (
            f"not applied: {file}; what was served before is still served,"
            " and the errors above say what would happen otherwise"
        )
        assert "shop/cart:80" in live.get(HOST, "/cart")[1]

        seen = len(live.lines)
        file.write_text(good)
        live.wait_for("no errors any more", after=seen)
    assert set(load.stop()) == {200}


def test_a_good_edit_of_one_file_is_not_kept_back_by_a_broken_other(
    live: Dev, folder: Path
) -> None:
    shop, pay = folder / "shop.yaml", folder / "checkout.yaml"
    seen = len(live.lines)
    shop.write_text(shop.read_text().replace("name: cart, port", "name: crat, port"))
    live.wait_for("not applied", after=seen)
    pay.write_text(pay.read_text().replace("/checkout}", "/buy}"))

    live.eventually(lambda: live.get("pay.localhost", "/buy")[0] == 200)
    assert live.get("pay.localhost", "/checkout")[0] == 404
    assert "shop/cart:80" in live.get(HOST, "/cart")[1]


def test_status_tells_what_it_serves(live: Dev) -> None:
    admin = live.wait_for("metrics and state at").split()[4].removesuffix("/metrics")
    shown = CliRunner().invoke(app, ["status", "--admin", admin])

    assert shown.exit_code == 0
    assert re.fullmatch(rf"dataplane at {admin}: ready\nsnapshot [0-9a-f]{{12}}\n", shown.stdout)


def test_deleting_a_file_withdraws_its_routes_and_nothing_else(live: Dev, folder: Path) -> None:
    seen = len(live.lines)
    (folder / "checkout.yaml").unlink()

    live.eventually(lambda: live.get("pay.localhost", "/checkout")[0] == 404)
    assert live.get(HOST, "/cart")[0] == 200
    live.wait_for(r"- route pay.localhost /checkout/\*", after=seen)


def test_a_new_file_in_a_new_folder_is_served(live: Dev, folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "new.yaml").write_text(ALONE)

    live.eventually(lambda: live.get("alone.localhost", "/")[0] == 200)
    live.wait_for("curl -H 'Host: alone.localhost' http://127.0.0.1:")


def test_a_folder_that_is_made_anew_is_followed_and_its_times_are_true(
    start_dev: StartDev, tmp_path: Path
) -> None:
    """The kernel tells nothing more of it; it is found by looking."""
    file = tmp_path / "manifests" / "alone.yaml"
    file.parent.mkdir()
    file.write_text(ALONE)
    dev = start_dev("-f", str(file.parent)).ready()
    dev.wait_for("Ctrl-C ends")
    shutil.rmtree(file.parent)
    dev.wait_for("  - backend")  # the last line of that change
    file.parent.mkdir()
    save(file, ALONE, how=1)
    dev.wait_for(r"  \+ backend")

    seen = len(dev.lines)
    began = time.monotonic()
    save(file, ALONE.replace("path: /,", "path: /new,"), how=1)
    told = dev.wait_for("live in", after=seen)

    # It may have been looking already; but the last thing that the kernel told is 2 s ago.
    assert float(re.findall(r"live in (\d+) ms", told)[0]) < (time.monotonic() - began) * 1000 + 500


ALONE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: alone}
spec:
  ingressClassName: traefik
  rules:
    - host: alone.localhost
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
"""


def test_an_ingress_from_stdin_needs_nothing_else(start_dev: StartDev) -> None:
    dev = start_dev("-f", "-", stdin=ALONE.encode()).ready()

    status, body = dev.get("alone.localhost", "/a%20b?x=1", accept="application/json", probe="yes")

    assert status == 200
    seen = json.loads(body)
    assert (seen["backend"], seen["method"], seen["target"]) == (
        "default/web:80",
        "GET",
        "/a%20b?x=1",
    )
    assert ["probe", "yes"] in [[name.lower(), value] for name, value in seen["headers"]]
    dev.wait_for("the class 'traefik' counts as ours")
    dev.wait_for("Service default/web is not in the files")


def test_an_annotated_service_goes_to_its_own_address(start_dev: StartDev, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=answer_once, args=(listening,), daemon=True).start()
        (tmp_path / "all.yaml").write_text(
            ALONE.replace("name: http", "number: 80")
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: "
            f"{{dev.fairway.dev/address: '127.0.0.1:{port}'}}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
        dev = start_dev("-f", str(tmp_path / "all.yaml")).ready()

        assert dev.get("alone.localhost", "/") == (200, "mine")


def answer_once(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine")


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_ctrl_c_lets_a_request_finish_and_ends_within_5_seconds(
    start_dev: StartDev, folder: Path, number: int, workers: int
) -> None:
    dev = start_dev("-f", str(folder), "--workers", str(workers)).ready()
    assert all(dev.get(HOST, "/cart")[0] == 200 for _ in range(20))
    connection = http.client.HTTPConnection("127.0.0.1", dev.port, timeout=60)
    connection.putrequest("POST", "/cart", skip_host=True)
    connection.putheader("Host", HOST)
    connection.putheader("Content-Length", "4")
    connection.endheaders(b"12")
    dev.process.send_signal(number)
    dev.wait_for("stopping")
    connection.send(b"34")
    assert b"1234" in connection.getresponse().read()
    connection.close()

    began = time.monotonic()
    assert dev.stop() == 0
    assert STOP_SECONDS < 5
    # What it takes beyond those seconds is the end of a few interpreters, on a busy machine.
    assert time.monotonic() - began < 20


def test_a_taken_port_is_one_line(start_dev: StartDev, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev = start_dev("-f", str(folder), "--http-port", str(port))

        assert dev.wait() == 1
    (line,) = dev.lines
    assert line.startswith(f"fairway: cannot listen on 127.0.0.1:{port}: address already in use;")
    assert line.endswith("stop the other program, or choose a port with --http-port")


def test_a_second_dev_does_not_share_the_ports_of_the_first(
    start_dev: StartDev, live: Dev, folder: Path
) -> None:
    second = start_dev("-f", str(folder), "--http-port", str(live.port))

    assert second.wait() == 1
    assert "address already in use" in second.lines[0]


def test_a_path_that_is_not_there_is_one_line(start_dev: StartDev) -> None:
    dev = start_dev("-f", "nowhere.yaml")

    assert dev.wait() == 1
    assert dev.lines == ["fairway: nowhere.yaml: no such file or folder"]


def test_the_end_of_the_data_plane_is_reported(start_dev: StartDev, folder: Path) -> None:
    dev = start_dev("-f", str(folder)).ready()
    children = Path(f"/proc/{dev.process.pid}/task/{dev.process.pid}/children").read_text().split()
    (supervisor,) = [
        int(child) for child in children if b"leash" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    os.kill(supervisor, signal.SIGKILL)

    assert dev.wait() == 1
    dev.wait_for("the data plane ended with status -9")


def test_the_end_of_dev_is_the_end_of_the_data_plane(start_dev: StartDev, folder: Path) -> None:
    dev = start_dev("-f", str(folder)).ready()
    credentials = f"fairway-dev-{dev.process.pid}-*"
    assert any(found for root in MEMORY for found in root.glob(credentials))
    dev.process.kill()
    dev.process.wait(60)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", dev.port)) != 0

    dev.eventually(refused)
    dev.eventually(lambda: not any(found for root in MEMORY for found in root.glob(credentials)))


MEMORY = (Path("/dev/shm"), Path(tempfile.gettempdir()))


def save(file: Path, text: str, *, how: int) -> None:
    """Save as editors do: in place, by renaming, and by moving the old one away first."""
    if how == 0:
        file.write_text(text)
        return
    fresh = file.with_name(f".{file.name}.swp")
    fresh.write_text(text)
    if how == 2:
        file.rename(file.with_name(f"{file.name}~"))
    fresh.rename(file)


class Load(threading.Thread):
    """One client that asks all the time and counts the answers."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._ending = threading.Event()
        self._counts: Counter[object] = Counter()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._ending.wait(0.005):
            try:
                connection.request("GET", "/cart/1", headers={"Host": "shop.localhost"})
                response = connection.getresponse()
                response.read()
                self._counts[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self._counts[repr(error)] += 1
                connection.close()
        connection.close()

    def stop(self) -> Counter[object]:
        self._ending.set()
        self.join()
        return self._counts
