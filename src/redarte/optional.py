"""Networks that are trained only while params.yaml's `model` names them, and what stands in their place otherwise.

DVC has no stages that run under a condition. A second dvc.yaml would keep such a stage out of a plain `dvc repro`; but
the outputs of a stage that never ran make every `dvc pull` and `dvc checkout` fail, because they are declared and
cannot be had. So these stages always run. One that is not asked for is done at once, and leaves empty files.
"""

from pathlib import Path

from redarte import outputs


def leave_empty(model: Path, metrics: Path, history: Path | None = None) -> None:
    """Leaves the outputs of a stage that has no network to make: a model of no bytes, and metrics without numbers."""
    outputs.write_text(model, "")
    outputs.write_json(metrics, {})
    if history is not None:
        outputs.write_text(history, "epoch,split,accuracy,loss\n")


def is_empty(model: Path) -> bool:
    """Whether a network was not asked for."""
    return model.is_file() and model.stat().st_size == 0
