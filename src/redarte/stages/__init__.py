"""One module a DVC stage: load params, read inputs, call two or three functions, write outputs."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def _run_this_checkout() -> None:
    """Starts the command again from ./src where another checkout's code is the one that is installed.

    DVC hashes ./src and caches the outputs under that hash, so ./src is what must run: in a second clone
    that shares an environment, and in the temporary folder of a queued experiment. It happens here, before
    a stage imports anything, because TensorFlow takes seconds.
    """
    here = Path("src/redarte").resolve()
    if not here.is_dir() or here == Path(__file__).resolve().parents[1]:
        return
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    if os.name == "posix":
        os.execve(sys.executable, sys.orig_argv, environment)
    # Windows has no exec that keeps the process.
    sys.exit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=environment))


def _end_quietly() -> None:
    """Lets Ctrl-C end the process without a word until `console.run_stage` listens: importing takes seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if any(argument.startswith(f"{__name__}.") for argument in sys.orig_argv):
    _end_quietly()
    _run_this_checkout()
