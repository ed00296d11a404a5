"""params.yaml, read and checked. The only reader of that file.

Every stage checks the whole document before it does anything, so that a typing mistake anywhere in it is told at once;
which sections a stage then uses is declared in dvc.yaml. Code here makes no stage stale: the values decide, and DVC
reads those itself.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from redarte.runtime import validation, yaml12
from redarte.runtime.errors import UserError

CopyName = Literal["rotation", "vertical_mirror", "horizontal_mirror", "zoom", "shift_left", "shift_right"]
StudyName = Literal["red1", "red2", "red3"]

STUDY: tuple[StudyName, ...] = get_args(StudyName)
_FILES = Path(__file__).with_name("networks")  # one file a network
_RENAMED = {  # old name: what the parameter is called now
    "fisher.filters": "fisher.principal_components",
    "fisher.kinds": "fisher.mixture_components",
    "fisher.cost": "fisher.C",
    "finetuned.filters": "finetuned.principal_components",
    "finetuned.head.cost": "finetuned.head.C",
    "finetuned.tail": "finetuned.fine_tune",
    "resize.size": "resize.side",
}

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]


def _each_once(names: list[CopyName]) -> list[CopyName]:
    if len(set(names)) != len(names):
        raise ValueError("must name each copy once, or none: []")
    return names


def _beyond(names: list[str]) -> list[str]:
    for name in names:
        if name in STUDY or names.count(name) > 1 or not _is_network(name):
            raise ValueError("must name networks beyond the study, each once: files of networks/, such as finetuned")
    return names


def _is_network(name: str) -> bool:
    return name in STUDY or (
        re.fullmatch("[a-z][a-z0-9_]{0,60}", name) is not None and (_FILES / f"{name}.py").is_file()
    )


def _is_whole(key: object) -> bool:
    return isinstance(key, str) and _is_network(key) and "\ndef decompose(" in (_FILES / f"{key}.py").read_text("utf-8")


Text = Annotated[str, AfterValidator(validation.on_a_line)]
ShareOrLayer = Annotated[float | str, PlainValidator(validation.share_or_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sample(_Section):
    schools: int = Field(ge=2, le=8)
    pictures: int = Field(ge=3, le=1000)
    seed: Seed


class Archive(_Section):
    path: Text | None
    root: Text | None
    encoding: Annotated[str, AfterValidator(validation.encoding)] | None
    sha256: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")] | None
    max_gigabytes: float = Field(ge=0.001, le=10_000)
    max_files: int = Field(ge=1, le=10_000_000)


class Folder(_Section):
    path: Annotated[Text, AfterValidator(validation.outside_of_outputs)] | None
    root: Text | None


class Kaggle(_Section):
    dataset: str = Field(pattern=r"^[\w-]+/[\w-]+$")
    version: int = Field(ge=1)
    root: Text | None


class Fetch(_Section):
    source: Literal["sample", "archive", "folder", "kaggle"]
    max_megapixels: float = Field(ge=1, le=1000)
    sample: Sample
    archive: Archive
    folder: Folder
    kaggle: Kaggle


class Split(_Section):
    train: Share
    val: Share
    test: Share
    folds: int = Field(ge=0, le=100)
    fold: int = Field(ge=0, le=99)
    keep_duplicates_together: bool
    too_small: Literal["error", "train_only", "leave_out"]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")
        if self.folds == 1:
            raise ValueError("folds must be 0 (none) or at least 2")
        if self.fold >= max(self.folds, 1):
            raise ValueError(f"fold must be less than folds (now {self.folds}); it counts from 0")
        return self


class Augment(_Section):
    copies: Annotated[list[CopyName], AfterValidator(_each_once)]
    rotation: Annotated[list[Annotated[float, Field(ge=-180, le=180)]], AfterValidator(validation.ascending)]
    zoom: Annotated[list[Annotated[float, Field(ge=1, le=4)]], AfterValidator(validation.ascending)]
    shift: Annotated[list[Annotated[float, Field(ge=0, le=0.9)]], AfterValidator(validation.ascending)]
    max_side: int = Field(ge=16, le=8192)
    quality: Quality


class Resize(_Section):
    side: int = Field(ge=8, le=1024)
    quality: Quality


class Train(_Section):
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1, le=4096)
    learning_rate: float = Field(gt=0, le=1)
    schedule: Literal["constant", "cosine"]
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    online: bool
    patience: int = Field(ge=0, le=10_000)
    device: Literal["auto", "gpu", "cpu"]
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    jit: Literal["auto"] | bool
    deterministic: bool
    resume: bool


class Penalty(_Section):
    l1: Weight
    l2: Weight


class Fisher(_Section):
    input_size: int = Field(ge=8, le=2048)
    cell: int = Field(ge=1, le=64)
    principal_components: int = Field(ge=1, le=96)
    mixture_components: int = Field(ge=1, le=1024)
    C: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.input_size < 4 * self.cell:
            raise ValueError(f"input_size must be at least four cells ({4 * self.cell} px)")
        return self


class FineTune(_Section):
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


class Head(FineTune):
    C: float = Field(gt=0, le=1e6)


class Finetuned(_Section):
    backbone: Text
    weights: Text
    input_size: int = Field(ge=8, le=2048)
    principal_components: int = Field(ge=1, le=512)
    head: Head
    fine_tune: FineTune
    unfreeze: ShareOrLayer
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    online: bool


class Evaluate(_Section):
    coverage: float = Field(gt=0, le=1)
    confused_pairs: int = Field(ge=1, le=100)
    gallery: int = Field(ge=1, le=60)


class NewNetwork(_Section):
    """The section of a network that has no class here: its own file reads what it needs of it."""

    model_config = ConfigDict(extra="allow")

    _seen = model_validator(mode="before")(validation.seen_by_dvc)


class Params(_Section):
    """The whole of params.yaml, checked and frozen. A network without a class here has a section of its name, too."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NewNetwork]

    model: str
    beyond: Annotated[list[str], AfterValidator(_beyond)]
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
    evaluate: Evaluate

    @property
    def trained(self) -> list[str]:
        """The networks that `dvc repro` trains."""
        return [*STUDY, *self.beyond]

    @property
    def networks(self) -> list[str]:
        """The networks that can be trained: those of the study, and those with a section here."""
        return [*STUDY, *(name for name in dict(self) if name not in STUDY and _is_network(name))]

    def no_network(self, name: str) -> UserError:
        """What is said to a person who names a network that there is not."""
        return UserError(f"there is no network {name}; there are {', '.join(self.networks)}.")

    @model_validator(mode="after")
    def _trained(self) -> Self:
        for name in self.beyond:
            if name not in self.networks:
                raise ValueError(f"beyond names {name}, which has no section of its name here; add it")
        if self.model in self.trained:
            return self
        if self.model in self.networks:
            raise ValueError(
                f"model is {self.model}, which is trained only where beyond names it; type "
                f"dvc exp run -S 'beyond=[{self.model}]' -S model={self.model}, or set both here"
            )
        raise ValueError(f"model is {validation.brief(self.model)} and must be one of {', '.join(self.networks)}")


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks a params.yaml.

    Returns:
        The whole document, frozen.

    Raises:
        UserError: the file is missing, is not YAML, or holds values that are not allowed, with a sentence for each.
    """
    try:
        text = path.read_text(encoding="utf-8")
        validation.check_merged(path, text)
        document = yaml12.load(text)
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run this from the top folder of the project.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deep: it holds sections, and parameters in them.") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold sections such as fetch: and train:, and holds none.")
    return _checked(path, document)


def _checked(path: Path, document: dict[Any, Any]) -> Params:
    # A network without a class here may have a section where `beyond` names it, and keep it where that does not.
    beyond = document.get("beyond")
    named = beyond if isinstance(beyond, list) else []
    unknown = [key for key in document if not (key in Params.model_fields or key in named or _is_whole(key))]
    problems: list[Any] = [{"type": "extra_forbidden", "loc": (key,)} for key in unknown]
    try:
        settings = Params.model_validate({key: value for key, value in document.items() if key not in unknown})
    except ValidationError as error:
        problems += error.errors()
    if not problems:
        return settings
    raise UserError(validation.told(path, Params, problems, _RENAMED))
