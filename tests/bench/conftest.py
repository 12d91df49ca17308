"""The benchmark is run from the checkout and never installed: its folder is not on the path."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
