"""
Listening sockets for the operator's HTTP ports.

The one rule: every address means those of IPv6 and of IPv4. The stream's port does so by
grpc's own rule, and a pod has to be ready on clusters of either family.
"""

import socket

_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 is a free one. Raises OSError when it is taken."""
    if host in _EVERY_ADDRESS and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
