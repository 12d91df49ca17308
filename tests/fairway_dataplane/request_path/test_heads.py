"""A shorter way through the reading of a head changes no reading."""

from hypothesis import given
from hypothesis import strategies as st

from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.policy import RequestReader

READ = ("path", "query", "sent_path", "host", "authority", "fields", "keep_alive", "upgrade",
        "accepts_chunked", "body_length", "expects_continue", "encoded_slash")  # fmt: skip

TARGETS = st.lists(
    st.sampled_from((*"/.?%aZ0-_~=&+:;@!$'()*,|", "..", "%2F", "%41", "%2e", "%zz")), max_size=10
).map(lambda parts: b"/" + "".join(parts).encode())

HOST, CLOSE = "Host: a.example", "Connection: close"
OWN = (HOST, "Via: 1.1 x", "TE: gzip", "Keep-Alive: x", "X-Forwarded-For: 192.0.2.1", "X_Y: z")
OTHERS = ("Accept: */*", "Cookie: a_b=c", "User-Agent: x", "Viaduct: y", "T: e", "X: y")


class Nobody:
    """No sink: nothing is answered here."""


def read(head: str) -> dict[str, object]:
    """Return what the reader makes of a head."""
    exchange = Exchange(Nobody())  # type: ignore[arg-type] # nothing is answered
    reason = RequestReader(Limits()).read(head.encode(), exchange)
    return {"reason": reason} if reason else {name: getattr(exchange, name) for name in READ}


@given(TARGETS)
def test_what_a_target_means_does_not_depend_on_the_method(target: bytes) -> None:
    # The lines of methods that are seldom are never read by the pattern for plain ones.
    line = f"{target.decode()} HTTP/1.1\r\nHost: a.example\r\n\r\n"
    assert read(f"GET {line}") == read(f"PURGE {line}")


@given(st.lists(st.sampled_from(OTHERS), max_size=3), st.permutations((HOST, CLOSE)))
def test_host_and_connection_mean_the_same_wherever_they_stand(
    others: list[str], own: list[str]
) -> None:
    lines = "\r\n".join([own[0], *others, own[1]])
    found = read(f"GET / HTTP/1.1\r\n{lines}\r\n\r\n")
    # One more field takes the way for all that is less usual.
    assert found == read(f"GET / HTTP/1.1\r\n{lines}\r\nKeep-Alive: x\r\n\r\n")
    assert found["keep_alive"] is False


@given(st.permutations((*OWN, *OTHERS)), st.booleans())
def test_what_goes_on_is_every_line_but_those_of_this_connection(
    lines: list[str],
    upper: bool,  # noqa: FBT001 - hypothesis gives it by position
) -> None:
    def written(line: str) -> str:
        name, _, value = line.partition(":")
        return f"{name.upper() if upper else name}:{value}"

    block = "\r\n".join(map(written, lines))
    found = read(f"GET / HTTP/1.1\r\n{block}\r\n\r\n")
    wanted = [written(line) for line in lines if line in OTHERS]
    assert found["fields"] == "".join(f"\r\n{line}" for line in [*wanted, "via: 1.1 x"]).encode()
