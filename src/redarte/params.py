"""params.yaml, read and checked. The only reader of that file.

Every stage checks the whole document before it does anything, so that a typing mistake anywhere in it is
told at once; which sections a stage then uses is declared in dvc.yaml. Adding or renaming a parameter here makes no
stage stale: what decides the bytes of an output are the values, which DVC reads itself.
"""

import difflib
import re
import reprlib
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from redarte.runtime.errors import UserError, printable

CopyName = Literal["rotation", "vertical_mirror", "horizontal_mirror", "zoom", "shift_left", "shift_right"]
StudyName = Literal["red1", "red2", "red3"]

STUDY: tuple[StudyName, ...] = get_args(StudyName)
_FILES = Path(__file__).with_name("networks")  # one file a network
# Old names of parameters, and what they are called now.
_RENAMED = {
    "fisher.filters": "fisher.principal_components",
    "fisher.kinds": "fisher.mixture_components",
    "fisher.cost": "fisher.C",
    "finetuned.filters": "finetuned.principal_components",
    "finetuned.head.cost": "finetuned.head.C",
    "finetuned.tail": "finetuned.fine_tune",
}

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Weight = Annotated[float, Field(ge=0, le=1)]

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


def _beyond(names: list[str]) -> list[str]:
    for name in names:
        if name in STUDY or names.count(name) > 1 or not _is_network(name):
            raise ValueError(
                "must name networks beyond the study, each once: files of src/redarte/networks, such as finetuned"
            )
    return names


def _is_network(name: str) -> bool:
    return name in STUDY or (
        re.fullmatch("[a-z][a-z0-9_]{0,60}", name) is not None and (_FILES / f"{name}.py").is_file()
    )


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
    backend: Literal["local", "ray"]


class Resize(_Section):
    size: int = Field(ge=8, le=1024)
    quality: Quality
    backend: Literal["local", "ray"]


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


class Head(_Section):
    C: float = Field(gt=0, le=1e6)
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


class FineTune(_Section):
    epochs: int = Field(ge=0, le=10_000)
    learning_rate: float = Field(gt=0, le=1)


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
    copies: bool
    online: bool


class Evaluate(_Section):
    coverage: float = Field(gt=0, le=1)
    confused_pairs: int = Field(ge=1, le=100)
    gallery: int = Field(ge=1, le=60)


class NewNetwork(_Section):
    """The section of a network that has no class here: its own file reads what it needs of it."""

    model_config = ConfigDict(extra="allow")


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
        raise ValueError(f"model is {_brief.repr(self.model)} and must be one of {', '.join(self.networks)}")


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
    return _checked(path, document)


def _checked(path: Path, document: dict[Any, Any]) -> Params:
    # Networks without a class here may have a section where `beyond` names them.
    beyond = document.get("beyond")
    named = [name for name in beyond if isinstance(name, str)] if isinstance(beyond, list) else []
    unknown = [key for key in document if key not in Params.model_fields and key not in named]
    problems: list[Any] = [{"type": "extra_forbidden", "loc": (key,)} for key in unknown]
    try:
        settings = Params.model_validate({key: value for key, value in document.items() if key not in unknown})
    except ValidationError as error:
        problems += error.errors()
    if not problems:
        return settings
    # A key with a typing mistake is also a key that is missing: say the mistake first.
    problems.sort(key=lambda problem: problem["type"] not in _UNKNOWN)
    renamed = {_RENAMED.get(".".join(map(str, problem["loc"]))) for problem in problems}
    problems = [problem for problem in problems if ".".join(map(str, problem["loc"])) not in renamed]
    sentences = [_sentence(path, problem) for problem in problems[:_MOST_PROBLEMS]]
    more = len(problems) - len(sentences)
    raise UserError("\n".join(sentences + ([f"{path}: and {more} more of the kind."] if more else [])))


def trained_network(stage: str, arguments: list[str], settings: Params) -> str:
    """The network that a stage's command names, by its one argument.

    Raises:
        UserError: it names none that is trained.
    """
    if len(arguments) == 1 and arguments[0] in settings.trained:
        return arguments[0]
    raise UserError(f"{stage} takes the name of one network: {', '.join(settings.trained)}.")


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
                raise yaml.MarkedYAMLError(problem=f"{printable(key)} is given twice", problem_mark=node.start_mark)
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
    keys = [printable(key) for key in problem["loc"]]
    name = ".".join(keys) or "the document"
    if name in _RENAMED:
        return f"{path}: {name} is now called {_RENAMED[name]}."
    if problem["type"] in _UNKNOWN:
        return f"{path}: there is no parameter {name}{_did_you_mean(keys)}."
    if problem["type"] == "missing":
        return f"{path}: {name} is missing; add it (the committed params.yaml shows every parameter)."
    wish = re.sub(r"^(Value error, |Input |String )", "", problem["msg"]).replace("should", "must", 1)
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"{path}: {name}: {wish}." if keys else f"{path}: {wish}."
    return f"{path}: {name} is {_brief.repr(problem['input'])} and {wish}."


def _did_you_mean(keys: list[str]) -> str:
    section: Any = Params
    for key in keys[:-1]:
        section = section.model_fields[key].annotation
    near = difflib.get_close_matches(keys[-1], section.model_fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*keys[:-1], near[0]])}"
    return f"; here you can set {', '.join(section.model_fields)}"
