"""params.yaml as validated, frozen models. The only reader of that file.

Every stage validates the whole document first, so that a mistake anywhere in it is reported before any work.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from redarte.params import validation
from redarte.runtime import documents, paths
from redarte.runtime.errors import UserError

CopyName = Literal["rotation", "vertical_mirror", "horizontal_mirror", "zoom", "shift_left", "shift_right"]
StudyName = Literal["red1", "red2", "red3"]
Backend = Literal["tensorflow", "jax", "torch"]

STUDY: tuple[StudyName, ...] = get_args(StudyName)
BACKENDS = get_args(Backend)
# The registry of models: name -> module of redarte.models (docs/new-model.md).
REGISTRY: dict[str, str] = dict.fromkeys(STUDY, "study") | {"fisher": "fisher", "finetuned": "finetuned"}

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Ratio = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, AfterValidator(validation.single_line)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
FractionOrLayer = Annotated[float | str, PlainValidator(validation.fraction_or_name)]


def _check_copies(names: list[CopyName]) -> list[CopyName]:
    if len(set(names)) != len(names):
        raise ValueError("must name each copy once, or none: []")
    return names


def _check_extra_models(names: list[str]) -> list[str]:
    extra = [name for name in REGISTRY if name not in STUDY]
    if len(set(names)) != len(names) or not set(names) <= set(extra):
        raise ValueError(f"must name extra models, each once: {', '.join(extra)}; or none: []")
    return names


class Section(BaseModel):  # unknown keys are refused, and values are not converted
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sample(Section):
    schools: int = Field(ge=2, le=8)
    images: int = Field(ge=3, le=1000)
    seed: Seed


class Archive(Section):
    path: Annotated[Text, AfterValidator(validation.without_secrets)] | None
    root: Text | None
    encoding: Annotated[str, AfterValidator(validation.encoding)] | None
    sha256: Sha256 | None
    max_gigabytes: float = Field(ge=0.001, le=10_000)
    max_files: int = Field(ge=1, le=10_000_000)


class Folder(Section):
    path: Annotated[Text, AfterValidator(validation.outside_outputs)] | None
    root: Text | None
    sha256: Sha256 | None


class Kaggle(Section):
    dataset: str = Field(pattern=r"^[\w-]+/[\w-]+$")
    version: int = Field(ge=1)
    root: Text | None


class Fetch(Section):
    source: Literal["sample", "archive", "folder", "kaggle"]
    max_megapixels: float = Field(ge=1, le=1000)
    sample: Sample
    archive: Archive
    folder: Folder
    kaggle: Kaggle


class Split(Section):
    train: Ratio
    val: Ratio
    test: Ratio
    folds: int = Field(ge=0, le=100)
    fold: int = Field(ge=0, le=99)
    keep_duplicates_together: bool
    too_small: Literal["error", "train_only", "leave_out"]
    apply_corrections: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")
        if self.folds == 1:
            raise ValueError("folds must be 0 (none) or at least 2")
        if self.fold >= max(self.folds, 1):
            raise ValueError(f"fold must be less than folds (now {self.folds}); it counts from 0")
        return self


class Augment(Section):
    copies: Annotated[list[CopyName], AfterValidator(_check_copies)]
    rotation: Annotated[list[Annotated[float, Field(ge=-180, le=180)]], AfterValidator(validation.ascending)]
    zoom: Annotated[list[Annotated[float, Field(ge=1, le=4)]], AfterValidator(validation.ascending)]
    shift: Annotated[list[Annotated[float, Field(ge=0, le=0.9)]], AfterValidator(validation.ascending)]
    max_side: int = Field(ge=16, le=8192)
    quality: Quality


class Resize(Section):
    side: int = Field(ge=8, le=1024)
    quality: Quality


class Train(Section):
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1, le=4096)
    learning_rate: float = Field(gt=0, le=1)
    schedule: Literal["constant", "cosine"]
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    random_crop_flip: bool
    patience: int = Field(ge=0, le=10_000)
    backend: Literal["auto"] | Backend
    device: Literal["auto", "gpu", "cpu"]
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    jit: bool
    deterministic: bool


class Penalty(Section):
    l1: Weight
    l2: Weight


class Fisher(Section):
    input_size: int = Field(ge=8, le=2048)
    cell: int = Field(ge=1, le=64)
    principal_components: int = Field(ge=1, le=96)
    mixture_components: int = Field(ge=1, le=1024)
    C: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.input_size < 4 * self.cell:
            raise ValueError(f"input_size must be at least four cells ({4 * self.cell} px)")
        return self


class FineTune(Section):
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


class Head(FineTune):
    C: float = Field(gt=0, le=1e6)


class Finetuned(Section):
    backbone: Text
    weights: Text
    input_size: int = Field(ge=8, le=2048)
    principal_components: int = Field(ge=1, le=512)
    head: Head
    fine_tune: FineTune
    unfreeze: FractionOrLayer
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    random_crop_flip: bool


class Export(Section):
    coverage: float = Field(gt=0, le=1)


class Evaluate(Section):
    confused_pairs: int = Field(ge=1, le=100)
    gallery: int = Field(ge=1, le=60)


class Params(Section):
    """The whole of params.yaml."""

    model: str
    extra_models: Annotated[list[str], AfterValidator(_check_extra_models)]
    seed: Seed
    fetch: Fetch
    split: Split
    augment: Augment
    resize: Resize
    train: Train
    red1: Penalty
    red2: Penalty
    red3: Penalty
    fisher: Fisher
    finetuned: Finetuned
    export: Export
    evaluate: Evaluate

    @property
    def trained_models(self) -> list[str]:
        """The models that `dvc repro` trains."""
        return [*STUDY, *self.extra_models]

    @property
    def keras_backend(self) -> str:
        """The Keras backend that trains: train.backend, or for auto KERAS_BACKEND, else tensorflow."""
        if self.train.backend != "auto":
            return self.train.backend
        return os.environ.get("KERAS_BACKEND") or "tensorflow"

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.model in self.trained_models:
            return self
        if self.model in REGISTRY:
            raise ValueError(
                f"model is {self.model}, which is trained only if extra_models names it; type "
                f"dvc exp run -S 'extra_models=[{self.model}]' -S model={self.model}, or set both here"
            )
        raise ValueError(f"model is {validation.short_repr(self.model)} and must be one of {', '.join(REGISTRY)}")


def check_model(name: str) -> None:
    """Checks the name of a model."""
    if name not in REGISTRY:
        raise UserError(f"there is no model {name}; the models are {', '.join(REGISTRY)}.")


def model_file(name: str | None) -> Path:
    """Returns the .onnx file of a model.

    Args:
        name: a path, a model's name, or None for params.yaml's `model`.
    """
    if name is None:
        if not paths.PARAMS.exists():
            raise UserError("there is no params.yaml here that names a model; name one, such as --model red1.onnx.")
        name = load().model
    return Path(name) if name.endswith(".onnx") else paths.MODELS / f"{name}.onnx"


def load(path: Path = paths.PARAMS) -> Params:
    """Reads and validates a params.yaml, as DVC reads it (YAML 1.2)."""
    document = documents.read_yaml(path)
    try:
        settings = Params.model_validate(document)
    except ValidationError as error:
        raise UserError(validation.format_errors(path, Params, error.errors())) from None
    documents.check_seen_by_dvc(path, document)
    return settings
