"""That all are asked for what the workload says."""

from itertools import pairwise

import pytest

from bench.workloads import WORKLOADS


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_host_is_asked_for(name: str) -> None:
    workload = WORKLOADS[name]
    asked = {request.split(b"\r\n")[1].decode() for request in workload.requests()}
    assert asked == {f"Host: {host}" for host in workload.hosts}


def test_no_head_comes_twice_where_every_head_is_new() -> None:
    requests = list(WORKLOADS["an"].requests())
    assert len(set(requests)) == len(requests) == WORKLOADS["an"].variants
    lines = [request.partition(b"\r\n")[2] for request in requests]
    assert all(before != after for before, after in pairwise(lines))


def test_the_order_is_the_same_each_time() -> None:
    assert list(WORKLOADS["f1000"].requests()) == list(WORKLOADS["f1000"].requests())
