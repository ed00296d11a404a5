"""Starts `redarte serve`: configures what gradio reads on import, and imports it afterwards."""

import os
import sys
import tempfile

from redarte.runtime.sandbox import short_temp_dir


def serve(host: str, port: int) -> None:
    """Serves until Ctrl-C. Uploads are stored in a folder that is deleted at the end.

    Args:
        host: the address to listen on.
        port: 0 for any free port.

    Raises:
        UserError: there is no model, or the address is in use.
    """
    # Created before and outside of that folder, because multiprocessing deletes it only when Python ends.
    short_temp_dir()
    with tempfile.TemporaryDirectory(prefix="redarte-") as scratch:
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = scratch
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # Nothing is downloaded, and for some proxies gradio would need other packages.
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
        os.environ["HF_HUB_OFFLINE"] = "1"
        if sys.stderr.isatty():
            print("redarte: loading the models (some seconds)", file=sys.stderr, flush=True)
        from redarte.commands import service

        try:
            service.serve(host, port)
        finally:
            tempfile.tempdir = None
