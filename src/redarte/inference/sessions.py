"""Sessions of onnxruntime."""

from pathlib import Path

import numpy as np
import onnxruntime

from redarte.runtime.errors import UserError, first_line

_MAX_BYTES = 2 * 2**30  # of an ONNX file


def opened(path: Path) -> onnxruntime.InferenceSession:
    """Returns a session for an .onnx file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path} is larger than any model that redarte exports.")
        # From memory: a file that refers to other files for its weights finds none.
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except FileNotFoundError:
        raise UserError(f"{path} is missing; create it with `dvc repro`, or get it with `dvc pull`.") from None
    except UserError:
        raise
    except Exception as error:
        # onnxruntime has an exception for each way in which a file can be corrupt.
        raise UserError(f"{path} is not a model that redarte exported ({first_line(error)}).") from None


def compute(session: onnxruntime.InferenceSession, outputs: list[str], images: np.ndarray) -> list[np.ndarray]:
    """Computes some of the outputs of a model, and nothing else.

    Args:
        images: (n, side, side, 3), uint8, RGB.
    """
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    return list(session.run(outputs, {"image": images}, options))
