"""
Contestants that run, and one workload measured on all of them.

Every round measures every contestant before the next round begins, so that
whatever else the machine does falls on all of them alike.
"""

import contextlib
import datetime as dt
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import backend, load, network, peers
from bench.churn import Churn
from bench.load import Generator, Sample
from bench.peers.envoy import Envoy
from bench.peers.fairway import Fairway
from bench.peers.haproxy import Haproxy
from bench.peers.nginx import Nginx
from bench.peers.traefik import Traefik
from bench.processes import alive, free_port, rss_mb, wait_for
from bench.workloads import HOST, Workload

CONTESTANTS: dict[str, peers.Contestant] = {
    "fairway": Fairway("fairway"),
    "plain": Fairway("plain"),
    "traefik": Traefik(),
    "nginx": Nginx(),
    "haproxy": Haproxy(),
    "envoy": Envoy(),
}

IDLE_ROUND_SECONDS = 1.0
"""Connections are held open through all rounds, and closed by proxies after 75 s of silence."""

START_SECONDS = 120.0
"""To the first right answer; with 10,000 hosts that takes a while."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A contestant that runs."""

    name: str
    kind: peers.Contestant
    setting: peers.Setting
    served: peers.Served
    process: subprocess.Popen[bytes]

    def port(self, workload: Workload) -> int:
        """Return where a workload is asked for."""
        return self.setting.tls_port if workload.tls else self.setting.plain_port

    def change(self, after: peers.Served) -> None:
        """Have it serve something else."""
        self.kind.change(self.setting, self.served, after, self.process.pid)
        self.served = after


@dataclass(slots=True)
class Rounds:
    """What was measured of one contestant on one workload."""

    samples: list[Sample] = field(default_factory=list)
    """As fast as it answers."""
    paced: list[Sample] = field(default_factory=list)
    """At half of that."""
    idle_kb: float | None = None
    """Resident memory of one idle connection, in KiB."""
    errors: int = 0
    """Beside those in the samples."""
    problem: str = ""
    """Why it does not count."""


class Arena:
    """A folder, a network, the backend and the programs; contestants come and go."""

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        self._folder = folder
        self._programs = programs
        self._backend_port = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the backend, in a network of its own."""
        self._folder.chmod(0o755)
        with contextlib.ExitStack() as stack:
            stack.enter_context(network.own())
            self._backend_port, echo_port = free_port(), free_port()
            started = backend.start(self._folder, self._backend_port, echo_port, self._programs)
            for process in started:
                stack.enter_context(alive(process, 5.0))
            wait_for(self._backend_port, 5.0)
            wait_for(echo_port, 5.0)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that still runs."""
        self._stack.close()

    def start(
        self,
        stack: contextlib.ExitStack,
        name: str,
        workload: Workload,
        program: Path | None = None,
    ) -> Running:
        """Start a contestant in the shape of a workload; ``program`` is another Fairway."""
        shape = workload.shape
        place = Path(tempfile.mkdtemp(prefix=f"{name.replace(' ', '-')}-", dir=self._folder))
        place.chmod(0o755)
        certificate, key = _certificate(place)
        programs = self._programs
        setting = peers.Setting(
            folder=place,
            backend_port=self._backend_port,
            plain_port=free_port(),
            tls_port=free_port(),
            admin_port=free_port(),
            workers=shape.workers,
            certificate=certificate,
            key=key,
            programs=programs if program is None else {**programs, "fairway": str(program)},
        )
        hosts = (*workload.hosts, Churn.host(0)) if shape.changing else workload.hosts
        kind = CONTESTANTS["fairway" if program else name]
        served = peers.Served(hosts, backend.ADDRESSES[:1])
        process = stack.enter_context(alive(peers.start(kind, setting, served), 10.0))
        return Running(name=name, kind=kind, setting=setting, served=served, process=process)

    def generator(self, workload: Workload) -> Generator:
        """Return what makes the load of a workload."""
        return load.generator(workload, self._folder, self._programs)


def check(contestant: Running, using: Generator) -> str:
    """Wait until a contestant answers as it should; return what is wrong if it never does."""
    limit = time.monotonic() + START_SECONDS
    while (wrong := load.try_client(using, contestant.port(using.workload))) is not None:
        if time.monotonic() > limit or contestant.process.poll() is not None:
            print((contestant.setting.folder / "log").read_text()[-4000:], file=sys.stderr)
            return wrong
        time.sleep(0.3)
    return ""


def measure(
    using: Generator,
    running: Sequence[Running],
    *,
    rounds: int,
    seconds: float,
    paced: bool = False,
) -> dict[str, Rounds]:
    """Check and load each contestant in turn, round by round."""
    workload = using.workload
    found = {one.name: Rounds(problem=check(one, using)) for one in running}
    able = [one for one in running if not found[one.name].problem]
    held: dict[str, load.Idle] = {}
    if workload.idle_connections:
        seconds = min(seconds, IDLE_ROUND_SECONDS)
    with contextlib.ExitStack() as stack:
        if workload.idle_connections:
            held = {one.name: _hold_idle(stack, using, one, found[one.name]) for one in able}
        for one in able:
            _saturate(using, one, 1.0)  # warms up, and is not counted
        for number in range(rounds):
            # Nobody is always first, or always after the same one.
            at = number % len(able) if able else 0
            for one in (*able[at:], *able[:at]):
                into = found[one.name]
                into.samples.append(_saturate(using, one, seconds, into))
                if paced and workload.paced:
                    into.paced.append(_pace(using, one, seconds, into))
    for name, idle in held.items():
        found[name].errors += idle.errors
    for one in able:
        found[one.name].problem = check(one, using) and "wrong answers after the load"
    return found


def errors_of(rounds: Rounds) -> int:
    """Return how many errors count against a contestant."""
    samples = (*rounds.samples, *rounds.paced)
    return rounds.errors + sum(one.errors for one in samples) + bool(rounds.problem)


def costs_of(found: Mapping[str, Rounds]) -> dict[str, list[float]]:
    """Return the CPU microseconds of each contestant and round."""
    return {name: [one.cpu_us for one in rounds.samples] for name, rounds in found.items()}


def _saturate(using: Generator, one: Running, seconds: float, into: Rounds | None = None) -> Sample:
    changing = using.workload.shape.changing
    churn = Churn(one.served, one.change) if changing else None
    with churn or contextlib.nullcontext():
        sample = load.saturate(
            using, port=one.port(using.workload), seconds=seconds, pid=one.process.pid
        )
    if churn is not None and into is not None:
        served = not churn.failed and churn.is_served(one.setting.plain_port)
        into.errors += not served
    return sample


def _pace(using: Generator, one: Running, seconds: float, rounds: Rounds) -> Sample:
    return load.pace(
        using,
        port=one.port(using.workload),
        seconds=seconds,
        pid=one.process.pid,
        rate=statistics.median(sample.rps for sample in rounds.samples) / 2,
    )


def _hold_idle(
    stack: contextlib.ExitStack, using: Generator, one: Running, into: Rounds
) -> load.Idle:
    before = rss_mb(one.process.pid)
    idle = stack.enter_context(load.hold_idle(using, one.port(using.workload)))
    more = rss_mb(one.process.pid) - before
    into.idle_kb = more * 1024 / using.workload.idle_connections
    return idle


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
