"""``fairway.dev/ssl-redirect: "false"``: serve hosts with TLS over plain HTTP, too."""

from fairway_operator.annotations.flags import parse_flag


def parse_ssl_redirect(text: str) -> bool:
    """Tell whether plain requests are redirected."""
    return parse_flag(text)
