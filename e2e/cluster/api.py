"""A few calls to the local API server, for the time before anything else can make them."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any


class Api:
    """Reads from the API server at ``host:port`` with the pair of an administrator."""

    def __init__(self, address: str, pki: Path) -> None:
        self._address = address
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        status, _ = self._get("/readyz")
        return status == 200

    def node_ready(self, name: str) -> bool:
        """Whether a node has registered and its kubelet says Ready."""
        status, body = self._get(f"/api/v1/nodes/{name}")
        if status != 200:
            return False
        node: dict[str, Any] = json.loads(body)
        conditions = node["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def has_default_account(self) -> bool:
        """Whether pods can be made in the default namespace: its account is written last."""
        status, _ = self._get("/api/v1/namespaces/default/serviceaccounts/default")
        return status == 200

    def _get(self, path: str) -> tuple[int, bytes]:
        host, _, port = self._address.partition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=5, context=self._tls)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
