"""redarte recognises the artists of paintings: a DVC pipeline around three small convolutional neural networks."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redarte.classifier import Classifier, Prediction, load
    from redarte.runtime.errors import UserError

__all__ = ["Classifier", "Prediction", "UserError", "__version__", "load"]

try:
    __version__ = version("redarte")
except PackageNotFoundError:  # the code is on the path, and not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    # Imported when they are used: the stages need no onnxruntime.
    if name == "UserError":
        from redarte.runtime.errors import UserError

        return UserError
    if name in __all__:
        from redarte import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
