"""What an operator refuses to be told."""

import pytest

from fairway_operator.config import OperatorConfig
from fairway_operator.refs import Kind, ObjectRef


def test_a_default_certificate_is_the_secret_of_a_namespace() -> None:
    config = OperatorConfig(default_certificate="edge/wildcard-tls")

    assert config.default_certificate_secret == ObjectRef(Kind.SECRET, "edge", "wildcard-tls")
    assert OperatorConfig().default_certificate_secret is None


@pytest.mark.parametrize("name", ["wildcard-tls", "/wildcard-tls", "edge/", "a/b/c"])
def test_a_default_certificate_without_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="default_certificate is namespace/name"):
        OperatorConfig(default_certificate=name)
