"""The machines that train together, as the environment variable TF_CONFIG lists them (TensorFlow only).

The machines share the project's folder, and the first machine writes the outputs.
"""

import json
import os

from redarte.runtime.errors import UserError


def machine() -> tuple[int, int]:
    """Returns the index of this machine and the number of machines: (0, 1) without TF_CONFIG.

    Raises:
        UserError: TF_CONFIG is malformed.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0, 1
    try:
        config = json.loads(text)
        chiefs, workers = (list(config["cluster"].get(kind, [])) for kind in ("chief", "worker"))
        index = config["task"]["index"] + (len(chiefs) if config["task"]["type"] == "worker" else 0)
        is_valid = set(config["cluster"]) <= {"chief", "worker"} and index in range(len(chiefs + workers))
    except (ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise UserError(
            'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            '"index": 0}}; correct it (docs/gpu.md), or unset it.'
        )
    return index, len(chiefs + workers)


def is_first() -> bool:
    """Returns whether this machine writes the outputs.

    Raises:
        UserError: TF_CONFIG is malformed.
    """
    return machine()[0] == 0
