"""Starts `redarte serve`: settles what gradio reads on import, and only then imports it."""

import os
import tempfile

from redarte.runtime.sandbox import short_temp_dir


def serve(host: str, port: int) -> None:
    """Serves until Ctrl-C. What is uploaded lies in a folder that goes away then.

    Raises:
        UserError: there is no network, or the address is taken.
    """
    # Made before and not in that folder, because multiprocessing takes it away only when Python ends.
    short_temp_dir()
    with tempfile.TemporaryDirectory(prefix="redarte-") as scratch:
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = scratch
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        # Nothing is fetched, and for some proxies gradio would want packages.
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
        os.environ["HF_HUB_OFFLINE"] = "1"
        from redarte.commands import service

        try:
            service.serve(host, port)
        finally:
            tempfile.tempdir = None
