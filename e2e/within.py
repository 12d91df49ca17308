"""
Asking from inside the cluster, where every port of every address can be reached.

Only two ports lead into the cluster on every kind of it, and those are the
release's. What another release serves, a pod asks for.
"""

import base64
import json
from dataclasses import dataclass

from e2e.kubectl import Namespace
from e2e.load import ANSWER_LIMIT_SECONDS, Site

_PROGRAM = f"""
import base64, http.client, json, socket, ssl, sys
address, port, host, path, secure = sys.argv[1:]
stream = socket.create_connection((address, int(port)), {ANSWER_LIMIT_SECONDS})
certificate = b""
if secure:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    stream = trusting.wrap_socket(stream, server_hostname=host)
    certificate = stream.getpeercert(binary_form=True)
connection = http.client.HTTPConnection(host)
connection.sock = stream
connection.request("GET", path)
answer = connection.getresponse()
body, shown = (base64.b64encode(each).decode() for each in (answer.read(), certificate))
print(json.dumps({{"status": answer.status, "body": body, "certificate": shown}}))
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer, and the certificate (DER) of its connection."""

    status: int
    body: bytes
    certificate: bytes

    @property
    def app(self) -> str:
        """Which backend has answered; empty when none has."""
        return str(json.loads(self.body)["app"]) if self.status == 200 else ""


async def ask_within(namespace: Namespace, site: Site) -> Seen:
    """Ask once, from a pod of the backend ``red``. Raises CommandError without an answer."""
    told = await namespace.kubectl(
        *("exec", "deployment/red", "--", "python3", "-c", _PROGRAM),
        *(site.address, str(site.port), site.host, site.path, "secure" if site.tls else ""),
    )
    found = json.loads(told)
    body, certificate = (base64.b64decode(found[name]) for name in ("body", "certificate"))
    return Seen(found["status"], body, certificate)
