"""One module for each DVC stage: it loads the parameters, reads inputs, calls functions of the packages, writes
outputs.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path


def _run_this_checkout() -> None:
    """Restarts the command with the code in ./src where another checkout's code is installed.

    DVC hashes ./src and caches the outputs under that hash, so ./src must run: in a second clone that shares an
    environment, and in the temporary folder of a queued experiment. It happens here, before a stage imports anything,
    because TensorFlow takes seconds.
    """
    here = Path("src/redarte").resolve()
    if not here.is_dir() or here == Path(__file__).resolve().parents[1]:
        return
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    if os.name == "posix":
        os.execve(sys.executable, sys.orig_argv, environment)
    # On Windows exec does not keep the process.
    sys.exit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=environment))


def _exit_quietly_on_interrupt() -> None:
    """Lets Ctrl-C end the process without a message until `console.run_stage` handles it: imports take seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if any(argument.startswith(f"{__name__}.") for argument in sys.orig_argv):
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # before OpenCV is imported: see `console.quiet_libraries`
    _exit_quietly_on_interrupt()
    _run_this_checkout()
