"""
Snippets of nginx configuration: never run, but looked at for what is lost.

A snippet is harmless if every directive in it is known to change headers or to
tune nginx. Whatever else stands there might keep somebody out.
"""

import re
from collections.abc import Iterator
from typing import Final

# A quotation that does not end goes to the end of the text: each character is looked at once.
_TOKEN: Final = re.compile(
    r"""#[^\n]*|"(?:[^"\\]|\\.?)*(?P<end>"?)|'(?:[^'\\]|\\.?)*(?P<close>'?)"""
    r"""|[^\s;{}"'#]+|[;{}]""",
    re.DOTALL,
)

_TO_CLIENT: Final = frozenset({"more_set_headers", "add_header"})
_TO_BACKEND: Final = frozenset({"proxy_set_header"})
_HARMLESS: Final = re.compile(
    r"more_set_headers|more_clear_headers|add_header|proxy_set_header|proxy_hide_header"
    r"|proxy_pass_header|proxy_ignore_headers|proxy_cookie_(?:domain|path|flags)|proxy_redirect"
    r"|proxy_buffer\w*|proxy_busy_buffers_size|proxy_max_temp_file_size|proxy_http_version"
    r"|proxy_(?:connect|read|send)_timeout|proxy_request_buffering|proxy_intercept_errors"
    r"|proxy_next_upstream\w*|client_(?:body|header)_(?:buffer_size|timeout)|client_max_body_size"
    r"|large_client_header_buffers|send_timeout|keepalive_\w+|tcp_\w+|sendfile|expires|etag"
    r"|gzip\w*|brotli\w*|charset|default_type|server_tokens|chunked_transfer_encoding"
    r"|access_log|error_log|log_\w+|sub_filter\w*|if_modified_since|port_in_redirect"
)

_PRIVATE: Final = re.compile(r"auth|cookie|key|token|secret|password|credential")
"""Of names of headers whose values are not repeated: findings are read by many."""


def directives(text: str) -> list[list[str]] | None:
    """Return the words of each directive, without quotes; None where a block is, or no end."""
    found: list[list[str]] = []
    words: list[str] = []
    for token in _TOKEN.finditer(text):
        part = token[0]
        if part in ("{", "}") or "" in (token["end"], token["close"]):
            return None
        if part == ";":
            found.append(words)
            words = []
        elif not part.startswith("#"):
            words.append(part[1:-1] if part[0] in "\"'" else part)
    return [each for each in (*found, words) if each]


def is_harmless(text: str) -> bool:
    """Tell whether nothing in a snippet can keep anybody out."""
    found = directives(text)
    return found is not None and all(
        _HARMLESS.fullmatch(words[0]) is not None
        # An empty value takes a header away, which a backend may rely on.
        and not (words[0] == "proxy_set_header" and words[-1] == "")
        for words in found
    )


def equivalents(text: str) -> Iterator[str]:
    """Yield our annotations, as YAML, that set the fixed headers of a harmless snippet."""
    found = directives(text) or []
    for ours, names in (("response-headers", _TO_CLIENT), ("request-headers", _TO_BACKEND)):
        lines = [_line(words[1:]) for words in found if words[0] in names]
        if lines and all(lines):
            text = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
            yield f'fairway.dev/{ours}: "{text}"'


def _line(words: list[str]) -> str:
    """Return ``name: value``; empty where the value is none of a fixed header."""
    if len(words) == 1:
        name, _, value = words[0].partition(":")
    elif len(words) in (2, 3) and words[2:] in ([], ["always"]):
        name, value = words[:2]
    else:
        return ""
    if not value.strip() or "$" in value:
        return ""
    lower = name.strip().lower()
    return f"{lower}: {'...' if _PRIVATE.search(lower) else value.strip()}"
