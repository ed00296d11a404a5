"""A trained network -> one ONNX file that answers by itself.

The file holds what a person needs to use the network without this project: the artists' names, the temperature that
calibrates its probabilities, the features of the pictures it was trained on, and how far from them a picture may be.

Its input is `picture`, (n, side, side, 3) uint8, RGB, 0 to 255. Its outputs, float32:
- logits (n, artists): before the softmax;
- feature_maps (n, rows, columns, channels): of the last block;
- weights (rows, columns, channels, artists), or (1, 1, channels, artists): logits are the sum of feature_maps ·
  weights, plus a bias;
- features (n, features): an embedding of the picture, as the network's `decompose` gives it;
- similarity (n, trained): the cosine between a picture's features and those of each picture that the network was
  trained on; -1 to 1;
- ood_score (n,): the Mahalanobis distance of the features to those of the training pictures; 0 or more.
"""

import json
import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from redarte.inference.predictor import Metadata
from redarte.networks.base import Decomposition
from redarte.training.backend import native as tf
from redarte.training.backend import quiet

_OPSET = 18
_SMALLEST = 1e-12  # to divide by, where no feature is above zero
_ONNX_FORMAT = 10  # the newest that onnxruntime has read for years
logging.getLogger("tf2onnx").setLevel(logging.ERROR)


def export(side: int, parts: Decomposition) -> onnx.ModelProto:
    """Exports a network that was taken apart.

    The same network gives the same bytes. What depends on other pictures is not there yet: see `complete`.

    Args:
        side: of the pictures that it takes, in px.

    Returns:
        A model with the outputs logits, feature_maps, weights and features.
    """
    picture = tf.TensorSpec((None, side, side, 3), tf.uint8, name="picture")

    def answer(picture: Any) -> dict[str, Any]:
        feature_maps, described, features = parts.forward(tf.cast(picture, tf.float32))
        return {
            "logits": described @ tf.constant(parts.kernel) + tf.constant(parts.bias),
            "feature_maps": tf.identity(feature_maps),
            "features": features,
        }

    model = to_onnx(tf.function(answer, input_signature=[picture]))
    _add_weights(model.graph, parts.kernel, parts.shape)
    return _same_each_time(model)


def to_onnx(function: Any) -> onnx.ModelProto:
    """Converts a traced function, operation by operation.

    tf2onnx.convert would go on to move transpositions about, one time in twenty in another way; onnxruntime does that
    when it opens the file.
    """
    with quiet():
        # Imported after TensorFlow, which it would import aloud.
        from tf2onnx import tf_loader, tfonnx

        concrete = function.get_concrete_function()
        named = {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
        inputs = [tensor.name for tensor in concrete.inputs if tensor.dtype != tf.resource]
        frozen = tf_loader.from_function(concrete, inputs, list(named))
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            renamed = {**named, inputs[0]: "picture"}
            converted = tfonnx.process_tf_graph(
                graph, opset=_OPSET, input_names=inputs, output_names=list(named), tensors_to_rename=renamed
            )
    model: onnx.ModelProto = converted.make_model("redarte")
    return model


def complete(
    model: onnx.ModelProto, trained: np.ndarray, mean: np.ndarray, whitening: np.ndarray, metadata: Metadata
) -> bytes:
    """Puts in what was measured with the exported network.

    Args:
        model: from `export`.
        trained: (trained, features), float32: the features of the pictures that it was trained on.
        mean, whitening: from `calibration.whitening` of them.
        metadata: what the file says of itself.

    Returns:
        The content of an .onnx file.
    """
    length = np.linalg.norm(trained, axis=1, keepdims=True)
    constants = {
        "mean": mean,
        "whitening": whitening,
        "trained": (trained / np.maximum(length, _SMALLEST)).T,
        "smallest": np.array([_SMALLEST]),
    }
    graph = model.graph
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "channels"))
    graph.node.extend(
        [
            helper.make_node("Sub", ["features", "mean"], ["from_mean"]),
            helper.make_node("MatMul", ["from_mean", "whitening"], ["whitened"]),
            helper.make_node("ReduceL2", ["whitened", "channels"], ["ood_score"], keepdims=0),
            helper.make_node("ReduceL2", ["features", "channels"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "smallest"], ["divisor"]),
            helper.make_node("Div", ["features", "divisor"], ["direction"]),
            helper.make_node("MatMul", ["direction", "trained"], ["similarity"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("similarity", onnx.TensorProto.FLOAT, ["n", len(trained)]))
    graph.output.append(helper.make_tensor_value_info("ood_score", onnx.TensorProto.FLOAT, ["n"]))
    del model.metadata_props[:]
    helper.set_model_props(model, {"redarte": json.dumps(asdict(metadata), ensure_ascii=False)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _add_weights(graph: onnx.GraphProto, kernel: np.ndarray, shape: tuple[int, ...]) -> None:
    """Adds the dense layer's kernel, by place and channel, as an output: one Reshape of the weights that are there."""
    held = next(array.name for array in graph.initializer if tuple(array.dims) == kernel.shape)
    graph.initializer.append(numpy_helper.from_array(np.array([*shape, kernel.shape[1]]), "weights_shape"))
    graph.node.append(helper.make_node("Reshape", [held, "weights_shape"], ["weights"], "weights"))
    graph.output.append(helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [*shape, kernel.shape[1]]))


def _same_each_time(model: onnx.ModelProto) -> onnx.ModelProto:
    """Orders the nodes by what needs them, and names everything by its place: tf2onnx does neither twice alike."""
    graph = model.graph
    nodes = _in_order(graph)
    named = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def rename(values: Any) -> None:
        for index, name in enumerate(values):
            if name and name not in named:
                values[index] = names.setdefault(name, f"t{len(names)}")

    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
        rename(node.input)
        rename(node.output)
    arrays = sorted((array for array in graph.initializer if array.name in names), key=lambda a: int(names[a.name][1:]))
    fresh = onnx.GraphProto(name="redarte", node=nodes, input=graph.input, output=_outputs(graph))
    for array in arrays:
        fresh.initializer.append(numpy_helper.from_array(numpy_helper.to_array(array), names[array.name]))
    for value in (*fresh.input, *fresh.output):
        if value.name != "weights":
            value.type.tensor_type.shape.dim[0].dim_param = "n"
    return helper.make_model(
        fresh, producer_name="redarte", ir_version=_ONNX_FORMAT, opset_imports=[helper.make_opsetid("", _OPSET)]
    )


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that an output needs, each after those that it needs itself."""
    makers = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, onnx.NodeProto] = {}
    waiting = [makers[value.name].output[0] for value in reversed(_outputs(graph))]
    while waiting:
        node = makers[waiting[-1]]
        needed = [makers[name].output[0] for name in node.input if name in makers]
        missing = [name for name in needed if name not in ordered]
        if missing:
            waiting.extend(reversed(missing))
        else:
            ordered[waiting.pop()] = node
    return list(ordered.values())


def _outputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return sorted(graph.output, key=lambda value: str(value.name))
