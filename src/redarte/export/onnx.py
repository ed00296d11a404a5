"""A trained Keras model as one ONNX file that predicts without this project.

The file also stores the artists' names, the temperature that calibrates the probabilities, the embeddings of the
training images, and the threshold of the out-of-distribution score.

Its input is `image`, (n, side, side, 3) uint8, RGB, 0 to 255. Its outputs are float32:
- logits (n, artists): before the softmax;
- feature_maps (n, rows, columns, channels): of the last block;
- weights (rows, columns, channels, artists), or (1, 1, channels, artists): logits are the sum of feature_maps ·
  weights, plus a bias;
- features (n, features): the embedding of an image, from the model's `decompose`;
- descriptor (n, channels): the sum of feature_maps over the positions;
- moments (n, features), of a model with such a layer: what all of these but feature_maps and weights are computed from;
- similarity (n, training images): the cosine similarity of an image to each training image, -1 to 1;
- ood_score (n,): the Mahalanobis distance of the features to those of the training images, 0 or more.
"""

import json
import logging
from collections.abc import MutableSequence
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from redarte.devices.backend import keras, quiet
from redarte.devices.backend import native as tf
from redarte.inference.predictor import Metadata
from redarte.models.base import Decomposition

_OPSET = 18
_IR_VERSION = 8  # the oldest that has opset 18: onnxruntime 1.14 and later load the file
_EPSILON = 1e-12  # the divisor where no feature is above zero
logging.getLogger("tf2onnx").setLevel(logging.ERROR)


def convert(side: int, parts: Decomposition) -> onnx.ModelProto:
    """Converts a decomposed model; equal models give equal bytes.

    Args:
        side: of the images that the model takes, in px.
    """
    image = keras.Input((side, side, 3), dtype="uint8", name="image")
    found = parts.forward(keras.ops.cast(image, "float32"))
    is_pooled = parts.shape[:2] == (1, 1)
    outputs = {
        "descriptor": found.inputs if is_pooled else keras.ops.sum(found.feature_maps, axis=(1, 2)),
        "feature_maps": found.feature_maps,
        "features": found.embedding,
        "logits": found.inputs @ parts.kernel + parts.bias,
    }
    if found.moments is not None:
        outputs["moments"] = found.moments
    with quiet():
        # Imported after TensorFlow, which tf2onnx would import with all its messages.
        from tf2onnx import convert

        signature = [tf.TensorSpec((None, side, side, 3), tf.uint8, name="image")]
        # tf2onnx's optimizers give different graphs from run to run; onnxruntime optimizes when it loads the file.
        proto, _ = convert.from_keras(
            keras.Model(image, outputs), signature, opset=_OPSET, optimizers={},
            custom_op_handlers={"Erfc": (_convert_erfc, [])},
        )  # fmt: skip
    _rename(proto.graph, list(outputs))
    _add_weights(proto.graph, parts.kernel, parts.shape)
    proto.ir_version = _IR_VERSION
    converted: onnx.ModelProto = proto
    return converted


def complete(
    proto: onnx.ModelProto, embeddings: np.ndarray, mean: np.ndarray, whitening: np.ndarray, metadata: Metadata
) -> bytes:
    """Adds the outputs similarity and ood_score, and the metadata.

    Args:
        embeddings: (training images, features), float32.
        mean: (features,), from `calibration.whitening` of the embeddings.
        whitening: (features, features), from the same.
    """
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    constants = {
        "mean": mean,
        "whitening": whitening,
        "embeddings": (embeddings / np.maximum(length, _EPSILON)).T,
        "epsilon": np.array([_EPSILON]),
    }
    graph = proto.graph
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "feature_axis"))
    graph.node.extend(
        [
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("MatMul", ["centred", "whitening"], ["whitened"]),
            helper.make_node("ReduceL2", ["whitened", "feature_axis"], ["ood_score"], keepdims=0),
            helper.make_node("ReduceL2", ["features", "feature_axis"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "epsilon"], ["divisor"]),
            helper.make_node("Div", ["features", "divisor"], ["direction"]),
            helper.make_node("MatMul", ["direction", "embeddings"], ["similarity"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("similarity", onnx.TensorProto.FLOAT, ["n", len(embeddings)]))
    graph.output.append(helper.make_tensor_value_info("ood_score", onnx.TensorProto.FLOAT, ["n"]))
    del proto.metadata_props[:]
    helper.set_model_props(proto, {"redarte": json.dumps(asdict(metadata), ensure_ascii=False)})
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _convert_erfc(context: Any, node: Any, name: str, _args: Any) -> None:
    """Replaces TensorFlow's Erfc, which is in Keras's GELU and not in ONNX, by 1 - Erf."""
    shape, dtype, source = context.get_shape(node.output[0]), context.get_dtype(node.output[0]), node.input[0]
    outputs = list(node.output)
    context.remove_node(node.name)
    erf = context.make_node("Erf", [source], shapes=[shape], dtypes=[dtype])
    one = context.make_const(f"{name}_one", np.ones((), np.float32))
    context.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=[shape], dtypes=[dtype])


def _rename(graph: onnx.GraphProto, outputs: list[str]) -> None:
    """Names the outputs, and everything else by its position: Keras and tf2onnx number names within a process."""
    names = {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    names |= {value.name: value.name for value in graph.input}
    # The moments are copied to the output: without the copy, the rest of the graph is computed from the output.
    for node in reversed([node for node in graph.node if node.op_type == "Identity"]):
        if names.get(node.output[0]) == "moments":
            names[node.input[0]] = names.pop(node.output[0])
            graph.node.remove(node)

    def rename(values: MutableSequence[str]) -> None:
        for index, name in enumerate(values):
            if name:
                values[index] = names.setdefault(name, f"t{len(names)}")

    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        rename(node.input)
        rename(node.output)
    arrays = {names[array.name]: numpy_helper.to_array(array) for array in graph.initializer if array.name in names}
    del graph.initializer[:]
    for name in sorted(arrays, key=lambda name: int(name[1:])):
        graph.initializer.append(numpy_helper.from_array(arrays[name], name))
    graph.name, graph.doc_string = "redarte", ""
    del graph.value_info[:]
    for value, name in zip((*graph.input, *graph.output), ("image", *outputs), strict=True):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "n"


def _add_weights(graph: onnx.GraphProto, kernel: np.ndarray, shape: tuple[int, ...]) -> None:
    """Adds the last layer's kernel, by position and channel, as an output: a Reshape of the stored weights."""
    stored = next(array.name for array in graph.initializer if tuple(array.dims) == kernel.shape)
    graph.initializer.append(numpy_helper.from_array(np.array([*shape, kernel.shape[1]]), "weights_shape"))
    graph.node.append(helper.make_node("Reshape", [stored, "weights_shape"], ["weights"], "weights"))
    graph.output.append(helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [*shape, kernel.shape[1]]))
