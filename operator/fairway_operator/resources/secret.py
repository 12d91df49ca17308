"""
Secret (``v1``), type ``kubernetes.io/tls`` only.

Of any other Secret nothing but its name and type is kept. No finding, and no
``repr``, holds any of the content.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader, is_encodable
from fairway_snapshot.secret import SecretBytes

TLS_TYPE = "kubernetes.io/tls"


class Secret(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Secret; what is absent or not of TLS is None."""

    ref: ObjectRef
    type: str
    chain: bytes | None
    """``tls.crt``, PEM, leaf first."""
    key: SecretBytes | None
    """``tls.key``, PEM."""
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> Secret:
    """Return the Secret; ``stringData``, which files may have, goes before ``data``."""
    kind = reader.text(body.get("type"), "type") or ""
    is_tls = kind == TLS_TYPE
    key = _content(reader, body, "tls.key") if is_tls else None
    return Secret(
        ref=reader.ref,
        type=kind,
        chain=_content(reader, body, "tls.crt") if is_tls else None,
        key=None if key is None else SecretBytes(key),
        problems=tuple(reader.findings),
    )


def _content(reader: Reader, body: Mapping[str, Any], name: str) -> bytes | None:
    plain = body.get("stringData")
    text = plain.get(name) if isinstance(plain, Mapping) else None
    if isinstance(text, str) and is_encodable(text):
        return text.encode() or None
    data = body.get("data")
    encoded = data.get(name) if isinstance(data, Mapping) else None
    if encoded is None:
        return None
    try:
        if isinstance(encoded, str):
            # Files may fold the text over lines.
            return b64decode("".join(encoded.split()), validate=True) or None
    except (binascii.Error, ValueError):
        pass  # noted below; the error itself could quote the content
    reader.note(f"data[{name}]", "the value is not base64", "write it under stringData instead")
    return None
