"""
``make bench``: all contestants, interleaved, in one run.

Every round measures every contestant before the next round begins, so that
whatever else the machine does falls on all of them alike.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import install, load, peers, report
from bench.workloads import HOST, WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results"

Samples: TypeAlias = dict[str, dict[str, list[load.Sample]]]


def main() -> int:
    """Run the benchmark; 1 when a contestant answered wrongly or with errors."""
    options = _options()
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed, one for the proxies and one for the load")
    contestants = ["fairway", *(name for name in options.peers if name != "fairway")]
    programs = install.install(set(contestants))
    by_hosts: dict[int, list[Workload]] = {}
    for workload in (WORKLOADS[name] for name in options.workloads):
        by_hosts.setdefault(workload.hosts, []).append(workload)
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="fairway-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        backend_port = free_port()
        with alive(peers.start_backend(folder, backend_port, programs["nginx"]), 5.0):
            wait_for(backend_port, 5.0)
            for hosts, workloads in by_hosts.items():
                with contextlib.ExitStack() as stack:
                    running = _start(stack, contestants, workloads, folder, backend_port, programs)
                    for contestant in running:
                        check(contestant, workloads)
                    for workload in workloads:
                        rows = measure(workload, running, folder, programs["wrk"], options)
                        samples[workload.name] = rows
                        print(f"{workload.name} ({hosts} hosts)", _line(rows), flush=True)
    return _finish(report.summarize(samples, _machine(options)), options.json)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A proxy that runs."""

    name: str
    setting: peers.Setting
    process: subprocess.Popen[bytes]

    def port(self, workload: Workload) -> int:
        """Return where a workload is asked for."""
        return self.setting.tls_port if workload.tls else self.setting.plain_port


def _start(  # noqa: PLR0917 - one call, and each is what a contestant is told
    stack: contextlib.ExitStack,
    names: list[str],
    workloads: list[Workload],
    folder: Path,
    backend_port: int,
    programs: dict[str, str],
) -> list[Contestant]:
    return [start_one(stack, name, workloads, folder, backend_port, programs) for name in names]


def start_one(  # noqa: PLR0917 - one call, and each is what a contestant is told
    stack: contextlib.ExitStack,
    name: str,
    workloads: list[Workload],
    folder: Path,
    backend_port: int,
    programs: dict[str, str],
    program: Path | None = None,
) -> Contestant:
    """Start a contestant; with ``program`` it is that installation of Fairway."""
    hosts = tuple(workloads[0].host(number) for number in range(workloads[0].hosts))
    place = folder / f"{name.replace(' ', '-')}-{len(hosts)}"
    place.mkdir()
    certificate, key = _certificate(place)
    setting = peers.Setting(
        folder=place,
        backend_port=backend_port,
        plain_port=free_port(),
        tls_port=free_port(),
        admin_port=free_port(),
        hosts=hosts,
        certificate=certificate,
        key=key,
        programs=programs if program is None else {**programs, "fairway": str(program)},
    )
    name_of_kind = name if program is None else "fairway"
    process = stack.enter_context(alive(peers.start(name_of_kind, setting), 10.0))
    return Contestant(name, setting, process)


def measure(
    workload: Workload,
    running: list[Contestant],
    folder: Path,
    wrk: str,
    options: argparse.Namespace,
) -> dict[str, list[load.Sample]]:
    """Load each contestant in turn, round by round; ``options`` has rounds and seconds."""
    lua = load.script(workload, folder)
    rows: dict[str, list[load.Sample]] = {contestant.name: [] for contestant in running}
    for number in range(-1, options.rounds):
        for contestant in running:
            # Round -1 warms up: it is short and not counted.
            sample = load.run(
                wrk,
                workload,
                lua,
                port=contestant.port(workload),
                seconds=options.seconds if number >= 0 else 1,
                pid=contestant.process.pid,
            )
            if number >= 0:
                rows[contestant.name].append(sample)
    return rows


def _finish(result: dict[str, Any], copy: str | None) -> int:
    report.show(result)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    for path in {RESULTS / "latest.json", *([Path(copy)] if copy else [])}:
        path.write_text(text)
    (RESULTS / "latest.svg").write_text(report.chart(result))
    failed = any(row["errors"] for rows in result["workloads"].values() for row in rows.values())
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--workloads", type=_names(set(WORKLOADS)), default=list(WORKLOADS))
    known = set(peers.CONTESTANTS)
    parser.add_argument("--peers", type=_names(known), default=list(peers.CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def _names(known: set[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - known)
        if unknown:
            message = f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            raise argparse.ArgumentTypeError(message)
        return names

    return parse


def _line(rows: dict[str, list[load.Sample]]) -> str:
    return "  ".join(
        f"{name} {min(sample.cpu_us for sample in rounds):.1f} us" for name, rounds in rows.items()
    )


def _machine(options: argparse.Namespace) -> dict[str, object]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(HOST), x509.DNSName(f"*.{HOST}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "tls.crt", folder / "tls.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return chain, private


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def alive(
    process: subprocess.Popen[bytes], grace_seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """End a process with the block, kindly at first."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(port: int, seconds: float) -> None:
    """Wait until somebody listens on a port."""
    limit = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return


def check(contestant: Contestant, workloads: list[Workload]) -> None:
    """Wait until a contestant answers each workload as it should; stop the run if it never does."""
    limit = time.monotonic() + 120.0
    setting = contestant.setting
    for workload in workloads:
        for host in {setting.hosts[0], setting.hosts[-1]}:
            while (
                answer := _ask(workload, host, contestant.port(workload))
            ) != workload.answer_bytes:
                if time.monotonic() > limit or contestant.process.poll() is not None:
                    print((setting.folder / "log").read_text()[-4000:], file=sys.stderr)
                    sys.exit(f"bench: {contestant.name} answers {workload.name} with {answer}")
                time.sleep(0.2)


def _ask(workload: Workload, host: str, port: int) -> int | str:
    """Return the length of the answer's body, or what went wrong."""
    body = b"u" * workload.upload_bytes
    method = "POST" if body else "GET"
    fields = "".join(f"{name}: {value}\r\n" for name, value in workload.headers)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = (
        f"{method} {workload.path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}"
        "Connection: close\r\n\r\n"
    )
    received = bytearray()
    try:
        with contextlib.ExitStack() as stack:
            link = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5.0))
            if workload.tls:
                tls = ssl.create_default_context()
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
                link = stack.enter_context(tls.wrap_socket(link, server_hostname=host))
            link.sendall(head.encode() + body)
            while data := link.recv(1 << 16):
                received += data
    except OSError as error:
        return str(error)
    status, _, rest = bytes(received).partition(b"\r\n")
    if b" 200 " not in status + b" ":
        return status.decode(errors="replace")
    return len(rest.partition(b"\r\n\r\n")[2])


if __name__ == "__main__":
    sys.exit(main())
