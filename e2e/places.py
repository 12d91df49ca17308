"""Where the suite finds and keeps things."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""

CACHE = Path(os.environ.get("FAIRWAY_E2E_CACHE", ROOT / ".cache" / "e2e"))
"""What is built once and kept: programs, base image, image. Not in git."""

CHART = ROOT / "charts" / "fairway"
