"""Every row of docs/http-policy.md has a test that carries its number, or is named here."""

import ast
import re
from pathlib import Path

import pytest

from tests.fairway_dataplane.catalogue.test_requests import ROWS as REQUESTS
from tests.fairway_dataplane.catalogue.test_responses import ROWS as RESPONSES

HERE = Path(__file__).parent
TESTS = HERE.parent

ELSEWHERE = {
    70: "request_path/test_clients.py::test_a_proxy_of_ours_is_believed",
    72: "request_path/test_introduction.py::test_what_is_no_header_closes_the_connection",
    91: "request_path/test_upstream.py::test_no_endpoint_is_an_answer",
    92: "request_path/test_attacks.py::test_half_open_heads",
    93: "request_path/test_attacks.py::test_a_client_with_no_window",
    94: "request_path/test_limits.py::test_connections",
    95: "request_path/test_clients.py::"
    "test_more_clients_than_the_limit_are_refused_and_idle_ones_make_room",
    101: "request_path/test_clients.py::test_a_tunnel_pushes_back",
    103: "tls/test_server.py::test_strict_contexts_answer_unknown_names_with_an_alert",
    104: "request_path/test_attacks.py::test_a_host_of_another_certificate_is_misdirected",
    105: "tls/test_server.py::test_a_connection_covers_the_hosts_of_its_certificate",
    106: "tls/test_contexts.py::"
    "test_a_bad_certificate_is_refused_alone_and_its_last_good_form_serves",
    107: "request_path/test_attacks.py::test_a_chain_out_of_order_is_served",
    108: "tls/test_server.py::test_renegotiation_is_refused",
    109: "tls/test_server.py::test_protocols_that_nobody_shares_are_refused_with_an_alert",
    110: "tls/test_server.py::test_a_flood_of_tiny_records_ends_and_a_trickle_does_not",
    111: "tls/test_server.py::"
    "test_a_rotated_certificate_serves_the_next_handshake_and_no_connection_ends",
    112: "tls/test_server.py::test_an_end_without_goodbye_is_a_truncation",
}  # fmt: skip
"""Where the rows are proven that the tables of this folder do not hold."""

WITHOUT = {
    **dict.fromkeys(range(96, 101), "HTTP/2 is not spoken: row 48 refuses its preface"),
    102: "nothing is decompressed, so there is nothing that could be",
}


def numbers_of_page() -> set[int]:
    """Return the numbers of all rows of the tables."""
    page = (HERE.parents[2] / "docs" / "http-policy.md").read_text()
    found: set[int] = set()
    for cell in re.findall(r"^\| ([0-9][0-9, to]*) \|", page, re.MULTILINE):
        numbers = [int(number) for number in re.findall("[0-9]+", cell)]
        found.update(range(numbers[0], numbers[-1] + 1))
    return found


def numbers_of_tables() -> set[int]:
    """Return the numbers that stand in the names of rows, and of tests."""
    names = [*REQUESTS, *RESPONSES]
    for path in HERE.glob("test_*.py"):
        names += re.findall(r"def test_row_([0-9]+)", path.read_text())
    return {int(found[0]) for name in names if (found := re.match("[0-9]+", name))}


def test_the_page_counts_all_rows() -> None:
    assert numbers_of_page() == set(range(1, 113))


def test_every_row_has_a_test() -> None:
    assert numbers_of_page() == numbers_of_tables() | set(ELSEWHERE) | set(WITHOUT)


@pytest.mark.parametrize("row", ELSEWHERE)
def test_what_is_named_is_there(row: int) -> None:
    path, _, name = ELSEWHERE[row].partition("::")
    tree = ast.parse((TESTS / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}
