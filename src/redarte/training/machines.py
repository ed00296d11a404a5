"""The machines that learn together, as the environment variable TF_CONFIG names them to each.

Several machines are TensorFlow's own business. They share the project's folder, and the first of them writes the
outputs.
"""

import json
import os

from redarte.runtime.errors import UserError


def machine() -> tuple[int, int]:
    """Which of the machines of TF_CONFIG this is, from 0, and how many they are: (0, 1) without TF_CONFIG.

    Raises:
        UserError: TF_CONFIG does not say so.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0, 1
    try:
        config = json.loads(text)
        chiefs, workers = (list(config["cluster"].get(kind, [])) for kind in ("chief", "worker"))
        number = config["task"]["index"] + (len(chiefs) if config["task"]["type"] == "worker" else 0)
        fits = set(config["cluster"]) <= {"chief", "worker"} and number in range(len(chiefs + workers))
    except (ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise UserError(
            'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            '"index": 0}}; write it so (docs/gpu.md), or unset it.'
        )
    return number, len(chiefs + workers)


def is_first() -> bool:
    """Whether this machine is the one that writes the outputs."""
    return machine()[0] == 0
