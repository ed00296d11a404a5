"""Malicious model files: none executes code, and each is loaded or refused in one sentence.

An attack is thirty of them: .keras files for `finetuned.backbone` and for `export`, .onnx files for `redarte predict`.
"""

import io
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tests.conftest import FISHER, new_workspace, save_backbone

from campaigns.images import HARM
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox, TaskFailedError

FILES = 30
_MEMORY = 8 * 2**30
_LONGEST = 60.0  # seconds for a file


@dataclass(frozen=True)
class Whole:
    """Valid models, and the folder in which they are modified."""

    folder: Path
    backbone: bytes
    keras: bytes
    onnx: bytes

    @property
    def canary(self) -> Path:
        """A file that exists only if a model's code was executed."""
        return self.folder / "canary"


@contextmanager
def prepared(folder: Path) -> Iterator[Whole]:
    workspace = new_workspace(folder / "redarte", FISHER)
    workspace.run("dvc", "repro", "export@red1")
    made = workspace.path / "models/red1"
    keras, exported = made.with_suffix(".keras").read_bytes(), made.with_suffix(".onnx").read_bytes()
    yield Whole(folder, save_backbone(folder / "tiny.keras").read_bytes(), keras, exported)


def attack(whole: Whole, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    made = []
    for number in range(FILES):
        kind = rng.choice(["backbone", "keras", "onnx"])
        path = whole.folder / f"{kind}{number}.{'onnx' if kind == 'onnx' else 'keras'}"
        path.write_bytes(malicious(rng, kind, whole))
        made.append((kind, path))
    happened: Counter[str] = Counter()
    with Sandbox(2, _MEMORY, timeout=_LONGEST) as sandbox:
        for (kind, path), answer in zip(made, sandbox.map(load, made), strict=True):
            assert not whole.canary.exists(), f"{path} ran code of its own"
            if isinstance(answer, TaskFailedError):
                happened[f"{kind}: LOST, {answer}"] += 1
            elif isinstance(answer, UserError):
                message = str(answer)
                assert message.startswith(str(path)) and "\n" not in message and len(message) < 1000, message
                happened[f"{kind}: refused"] += 1
            else:
                happened[f"{kind}: {answer}"] += 1
    return happened


def load(named: tuple[str, Path]) -> str:
    """Loads a file as redarte does, and predicts with it."""
    kind, path = named
    if kind == "onnx":
        from redarte.inference.predictor import Predictor

        model = Predictor(path)
        image = np.zeros((model.side, model.side, 3), np.uint8)
        model.predict([image[None]]).as_json(0, 5)
        model.evidence(image, 0)
    elif kind == "keras":
        from redarte.models.base import files as saved

        saved.load(path)
    else:
        from redarte import params
        from redarte.models import backbones

        settings = params.load(Path(__file__).parents[1] / "params.yaml").finetuned
        backbones.load(settings.model_copy(update={"backbone": str(path), "input_size": 48}))
    return "loaded"


def malicious(rng: random.Random, kind: str, whole: Whole) -> bytes:
    if kind == "onnx":
        data = rng.choice(ONNX)(rng, whole)
    else:
        data = rng.choice(KERAS)(rng, whole.backbone if kind == "backbone" else whole.keras, whole)
    return rng.choice(HARM)(rng, data) if rng.random() < 0.3 else data


def rewritten(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A .keras file with some of its members changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return made.getvalue()


def with_config(data: bytes, change: Callable[[Any], Any]) -> bytes:
    def only_config(name: str, content: bytes) -> bytes:
        return json.dumps(change(json.loads(content))).encode() if name == "config.json" else content

    return rewritten(data, only_config)


def atomic_file(_rng: random.Random, data: bytes, _complete: Whole) -> bytes:
    return data


def with_a_lambda(_rng: random.Random, data: bytes, whole: Whole) -> bytes:
    """A Lambda layer with marshalled code that would leave a mark."""
    from redarte.devices.backend import keras

    canary = str(whole.canary)
    model = keras.Sequential([keras.Input((24, 24, 3)), keras.layers.Conv2D(4, 3)])
    model.add(keras.layers.Lambda(lambda x: [open(canary, "w"), x][1]))  # noqa: SIM115, PTH123
    path = whole.folder / "lambda.keras"
    model.save(path)
    whole.canary.unlink(missing_ok=True)
    saved = path.read_bytes()
    path.unlink()
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        artists = source.read("artists.json") if "artists.json" in source.namelist() else b"[]"
    added = io.BytesIO(saved)
    with zipfile.ZipFile(added, "a") as target:
        target.writestr("artists.json", artists)
    return added.getvalue()


def with_a_call(rng: random.Random, data: bytes, whole: Whole) -> bytes:
    """A layer, an activation or an initialiser that names a function of Python's own, or of a module to import."""
    command = f"touch {whole.canary}"
    module, name = rng.choice(
        [("os", "system"), ("builtins", "exec"), ("builtins", "eval"), ("subprocess", "run"), ("posix", "system"),
         ("keras.utils", "get_file"), ("antigravity", "x"), ("keras.src.utils.python_utils", "func_load"),
         (None, "os.system")]
    )  # fmt: skip
    called = {"module": module, "class_name": name, "config": rng.choice([command, [command], {"command": command}]),
              "registered_name": rng.choice([None, name, "function"])}  # fmt: skip
    function = {"module": module, "class_name": "function", "config": name, "registered_name": "function"}

    def change(config: Any) -> Any:
        layers = config["config"]["layers"]
        layer = rng.choice(layers)
        folder = rng.choice(["whole", "layer", "activation", "kernel_initializer", "class", "build", "compile"])
        if folder == "whole":
            return called
        if folder == "layer":
            layers[layers.index(layer)] = rng.choice([called, function])
        elif folder == "class":
            layer |= {"module": module, "class_name": name, "registered_name": name}
        elif folder == "build":
            layer["build_config"] = called
        elif folder == "compile":
            config["compile_config"] = {"optimizer": called, "loss": function}
        else:
            layer["config"][folder] = rng.choice([called, function, name])
        return config

    return with_config(data, change)


def with_other_shapes(rng: random.Random, data: bytes, _complete: Whole) -> bytes:
    """Numbers of the layout are other numbers, so that the weights do not fit, or nothing does."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: change(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [change(entry) for entry in value]
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.05:
            return rng.choice([0, -1, 1, 2, 3, 7, 1000, 10**6, None, "1", 1.5])
        return value

    return with_config(data, change)


def with_broken_members(rng: random.Random, data: bytes, _complete: Whole) -> bytes:
    def change(_name: str, content: bytes) -> bytes:
        return rng.choice(HARM)(rng, content) if rng.random() < 0.5 else content

    return rewritten(data, change)


def with_members_gone(rng: random.Random, data: bytes, _complete: Whole) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            if rng.random() < 0.6:
                target.writestr(rng.choice([name, name, f"../{name}", f"/tmp/{name}"]), source.read(name))
    return made.getvalue()


def with_strange_artists(rng: random.Random, data: bytes, _complete: Whole) -> bytes:
    artists = rng.choice([b"", b"{}", b"null", b"[1, 2]", b"[[]]", b'["a"]', b'"abc"', b"[" * 9999, b"\xff"])
    return rewritten(data, lambda name, content: artists if name == "artists.json" else content)


KERAS = [
    atomic_file,
    with_a_lambda,
    with_a_call,
    with_a_call,
    with_a_call,
    with_other_shapes,
    with_other_shapes,
    with_broken_members,
    with_broken_members,
    with_members_gone,
    with_strange_artists,
]


def corrupted(rng: random.Random, whole: Whole) -> bytes:
    return rng.choice(HARM)(rng, whole.onnx)


def with_weights_elsewhere(rng: random.Random, whole: Whole) -> bytes:
    """Weights that stand in another file, as ONNX allows."""
    proto = onnx.load_from_string(whole.onnx)
    elsewhere = [
        "/etc/passwd",
        "../../etc/passwd",
        "/dev/zero",
        "tiny.keras",
        "*",
        "https://example.invalid/x",
        "/proc/self/environ",
    ]
    for tensor in rng.sample(list(proto.graph.initializer), 3):
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (
            ("location", rng.choice(elsewhere)),
            ("offset", "0"),
            ("length", rng.choice(["16", "-1", str(2**62)])),
        ):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return bytes(proto.SerializeToString())


def with_another_card(rng: random.Random, whole: Whole) -> bytes:
    """The metadata are changed."""
    proto = onnx.load_from_string(whole.onnx)
    for entry in proto.metadata_props:
        card = json.loads(entry.value) if rng.random() < 0.8 else {}
        for key in list(card):
            if rng.random() < 0.3:
                card[key] = rng.choice([None, 0, -1, float("nan"), "", "x", [], ["x"], {}, [[]], "a" * 10**5, True])
        entry.value = rng.choice([json.dumps(card), json.dumps(card), "[" * 9999, "{", ""])
    return bytes(proto.SerializeToString())


def with_another_graph(rng: random.Random, whole: Whole) -> bytes:
    """Nodes are removed, or have another type or an unknown domain."""
    proto = onnx.load_from_string(whole.onnx)
    nodes = proto.graph.node
    for _ in range(rng.randint(1, 3)):
        node = rng.choice(list(nodes))
        change = rng.choice(["gone", "kind", "domain", "loop", "shape"])
        if change == "gone":
            nodes.remove(node)
        elif change == "kind":
            node.op_type = rng.choice(["Relu", "MatMul", "If", "Loop", "Nothing", "PyOp", ""])
        elif change == "domain":
            node.domain = rng.choice(["ai.onnx.ml", "com.microsoft", "nowhere"])
        elif change == "loop" and node.input:
            node.input[0] = node.output[0]
        elif change == "shape":
            folder = rng.choice(list(proto.graph.initializer))
            if folder.dims:
                folder.dims[0] = rng.choice([0, -1, 1, 10**6, 2**62])
    return bytes(proto.SerializeToString())


ONNX = [
    lambda _rng, whole: whole.onnx,
    corrupted,
    corrupted,
    with_weights_elsewhere,
    with_another_card,
    with_another_graph,
]
