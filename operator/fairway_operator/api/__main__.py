"""``python -m fairway_operator.api``: print the CustomResourceDefinition as YAML."""

import sys

import yaml

from fairway_operator.api.crd import crd

HEADER = "# Made by `python -m fairway_operator.api`; do not edit.\n"


def render() -> str:
    """Return the text of ``crds/fairway.dev_routes.yaml``."""
    return HEADER + yaml.safe_dump(crd(), sort_keys=False, width=96, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(render())
