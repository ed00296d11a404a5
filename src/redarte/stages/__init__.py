"""One module for each DVC stage: it loads the parameters, reads inputs, calls functions of the packages, writes
outputs.
"""

import os
import signal
import sys

if any(argument.startswith(f"{__name__}.") for argument in sys.orig_argv):
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # before OpenCV is imported: see `console.quiet_libraries`
    # Imports take seconds: until `console.run_stage` handles Ctrl-C, it ends the process without a message.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
