"""params.yaml, read and checked. The only reader of that file.

Every stage checks the whole document before it does anything, so that a typing mistake anywhere in it is
told at once; which sections a stage then uses is declared in dvc.yaml.
"""

import difflib
import re
import reprlib
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from redarte.errors import UserError, shown

Backend = Literal["local", "ray"]
CopyName = Literal["rotation", "vertical_mirror", "horizontal_mirror", "zoom", "shift_left", "shift_right"]
StudyName = Literal["red1", "red2", "red3"]
NetworkName = Literal["red1", "red2", "red3", "fisher", "finetuned"]

STUDY: tuple[StudyName, ...] = get_args(StudyName)
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)
Name = TypeVar("Name", bound=str)

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Penalty = Annotated[float, Field(ge=0, le=1)]

_MOST_PROBLEMS = 20  # told at once
_UNKNOWN = ("extra_forbidden", "invalid_key")  # what pydantic calls a key that is no parameter


def _ascending(pair: list[float]) -> list[float]:
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError("must be two numbers, the smaller first")
    return pair


def _on_a_line(text: str) -> str:
    if not text.strip() or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must be a text on one line, and not empty")
    return text


def _each_once(names: list[CopyName]) -> list[CopyName]:
    if not names or len(set(names)) != len(names):
        raise ValueError("must name at least one copy, and each once")
    return names


def _share_or_layer(value: object) -> float | str:
    if isinstance(value, str) and not re.match(r"[-+.0-9]", value):
        return _on_a_line(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("must be a share from 0 to 1, or the name of a layer")
    return float(value)


Text = Annotated[str, AfterValidator(_on_a_line)]
ShareOrLayer = Annotated[float | str, PlainValidator(_share_or_layer)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sample(_Section):
    schools: int = Field(ge=2, le=8)
    pictures: int = Field(ge=3, le=1000)
    seed: Seed


class Archive(_Section):
    path: Text | None
    sha256: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")] | None
    max_gigabytes: float = Field(ge=0.001, le=10_000)
    max_files: int = Field(ge=1, le=10_000_000)


class Folder(_Section):
    path: Text | None


class Kaggle(_Section):
    dataset: str = Field(pattern=r"^[\w-]+/[\w-]+$")
    version: int = Field(ge=1)


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
    rotation: Annotated[list[Annotated[float, Field(ge=-180, le=180)]], AfterValidator(_ascending)]
    zoom: Annotated[list[Annotated[float, Field(ge=1, le=4)]], AfterValidator(_ascending)]
    shift: Annotated[list[Annotated[float, Field(ge=0, le=0.9)]], AfterValidator(_ascending)]
    max_side: int = Field(ge=16, le=8192)
    quality: Quality
    backend: Backend


class Resize(_Section):
    size: int = Field(ge=8, le=1024)
    quality: Quality
    backend: Backend


class Train(_Section):
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1, le=4096)
    learning_rate: float = Field(gt=0, le=1)
    schedule: Literal["constant", "cosine"]
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    online: bool
    patience: int = Field(ge=0, le=10_000)
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    deterministic: bool
    resume: bool


class Network(_Section):
    l1: Penalty
    l2: Penalty


class Fisher(_Section):
    input_size: int = Field(ge=8, le=2048)
    cell: int = Field(ge=1, le=64)
    filters: int = Field(ge=1, le=96)
    kinds: int = Field(ge=1, le=1024)
    cost: float = Field(gt=0, le=1e6)

    @model_validator(mode="after")
    def _seen(self) -> Self:
        if self.input_size < 4 * self.cell:
            raise ValueError(f"input_size must be at least four cells ({4 * self.cell} px)")
        return self


class Head(_Section):
    cost: float = Field(gt=0, le=1e6)
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


class Tail(_Section):
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


class Finetuned(_Section):
    backbone: Text
    weights: Text
    input_size: int = Field(ge=8, le=2048)
    filters: int = Field(ge=1, le=512)
    head: Head
    tail: Tail
    unfreeze: ShareOrLayer
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    copies: bool
    online: bool


class Evaluate(_Section):
    coverage: float = Field(gt=0, le=1)
    confused_pairs: int = Field(ge=1, le=100)
    gallery: int = Field(ge=1, le=60)


class Params(_Section):
    """The whole of params.yaml, checked and frozen."""

    model: NetworkName
    seed: Seed
    fetch: Fetch
    split: Split
    augment: Augment
    resize: Resize
    train: Train
    red1: Network
    red2: Network
    red3: Network
    fisher: Fisher
    finetuned: Finetuned
    evaluate: Evaluate


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks a params.yaml.

    Returns:
        The whole document, frozen.

    Raises:
        UserError: the file is missing, is not YAML, or holds a value that is not allowed; the message has
            a sentence for each.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run this from the top folder of the project.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deep: it holds sections, and parameters in them.") from None
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:
        # Of a value that is not what its explicit tag (!!int) says, PyYAML raises what Python raises.
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold sections such as fetch: and train:, and holds none.")
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        # A key with a typing mistake is also a key that is missing: say the mistake first.
        problems = sorted(error.errors(), key=lambda problem: problem["type"] not in _UNKNOWN)
        sentences = [_sentence(path, problem) for problem in problems[:_MOST_PROBLEMS]]
        more = len(problems) - len(sentences)
        raise UserError("\n".join(sentences + ([f"{path}: and {more} more of the kind."] if more else []))) from None


def network_name(stage: str, arguments: list[str], names: tuple[Name, ...]) -> Name:
    """The network that a stage's command names, by its one argument.

    Args:
        names: those that the stage takes.

    Raises:
        UserError: it names none.
    """
    for name in names:
        if arguments == [name]:
            return name
    raise UserError(f"{stage} takes the name of one network: {', '.join(names)}.")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key given twice and takes for numbers what DVC takes for them.

    DVC reads and writes YAML 1.2. PyYAML follows YAML 1.1, where 010 is eight, 1:30 is ninety, `on` is true and 1e-05
    is a text. Here a number is decimal, and what the two would read differently is a text, which no parameter that is a
    number takes.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise yaml.MarkedYAMLError(problem=f"{shown(key)} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_PLAIN = {
    "null": (r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?(0|[1-9][0-9]{0,99})$", list("-+0123456789")),
    "float": (
        r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$",
        list("-+.0123456789"),
    ),
    "merge": (r"^<<$", ["<"]),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)


# A few kilobytes of YAML can name gigabytes: what is told of a value is cut to a line.
_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 80, 80


def _sentence(path: Path, problem: Any) -> str:
    """One of pydantic's problems as a sentence that names the key, what is wrong and what to do."""
    keys = [shown(key) for key in problem["loc"]]
    name = ".".join(keys) or "the document"
    if problem["type"] in _UNKNOWN:
        return f"{path}: there is no parameter {name}{_did_you_mean(keys)}."
    if problem["type"] == "missing":
        return f"{path}: {name} is missing; add it (the committed params.yaml shows every parameter)."
    wish = re.sub(r"^(Value error, |Input |String )", "", problem["msg"]).replace("should", "must", 1)
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"{path}: {name}: {wish}."
    return f"{path}: {name} is {_brief.repr(problem['input'])} and {wish}."


def _did_you_mean(keys: list[str]) -> str:
    section: Any = Params
    for key in keys[:-1]:
        section = section.model_fields[key].annotation
    near = difflib.get_close_matches(keys[-1], section.model_fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*keys[:-1], near[0]])}"
    return f"; here you can set {', '.join(section.model_fields)}"
