"""
The first lines of the data plane's process under ``fairway dev``.

If ``fairway dev`` is killed, nobody would end its child; so the kernel is asked
to do that. (Linux only; elsewhere the child outlives such an end.) Its
credentials would be left behind as well, so they are removed here.
"""

import ctypes
import os
import shutil
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """
    Run the data plane until it ends or its parent does.

    Arguments: the parent's process id, and the folder of the credentials.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(sys.argv[1]):
            return 1  # it ended before we had asked
    from fairway_dataplane.supervisor import main as run  # noqa: PLC0415 - after the leash

    try:
        return run()
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
