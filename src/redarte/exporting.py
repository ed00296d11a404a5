"""A trained network -> one ONNX file that answers by itself.

The file holds what a person needs to use the network without this project: the artists' names, the temperature that
makes its probabilities honest, the features of the pictures it was trained on, and how unlike them a picture may be.

Its input is `picture`, (n, side, side, 3) uint8, RGB, 0 to 255. Its outputs, float32:
- logits (n, artists): before the softmax;
- spatial (n, rows, columns, channels): what the last block saw where;
- weights (rows, columns, channels, artists): logits are the sum of spatial · weights, plus a bias;
- features (n, channels): `spatial`, averaged over places;
- similarity (n, trained): the cosine between a picture's features and those of each picture that the network was
  trained on; -1 to 1;
- strangeness (n,): how far the features lie out of the cloud of the training pictures' features; 0 or more.
"""

import json
import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from redarte.backend import keras, quiet, tf
from redarte.errors import UserError
from redarte.prediction import Card

_OPSET = 18
_SMALLEST = 1e-12  # to divide by, where a picture lights nothing
_ONNX_FORMAT = 10  # the newest that onnxruntime has read for years
logging.getLogger("tf2onnx").setLevel(logging.ERROR)


def export(network: keras.Model) -> onnx.ModelProto:
    """Exports a network that ends in Flatten and one dense layer with a softmax.

    The same network gives the same bytes. What depends on other pictures is not there yet: see `complete`.

    Returns:
        A model with the outputs logits, spatial, weights and features (n, channels).
    """
    if [type(layer) for layer in network.layers[-2:]] != [keras.layers.Flatten, keras.layers.Dense]:
        raise UserError(f"{network.name} does not end in Flatten and one dense layer, and cannot be explained.")
    flatten, dense = network.layers[-2:]
    side = network.input_shape[1]
    shape = tuple(flatten.input.shape[1:])
    trunk = keras.Model(network.inputs, flatten.input)
    kernel, bias = dense.kernel.numpy(), dense.bias.numpy()
    picture = tf.TensorSpec((None, side, side, 3), tf.uint8, name="picture")

    def answer(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        spatial = trunk(tf.cast(picture, tf.float32), training=False)
        return {
            "logits": tf.reshape(spatial, [-1, int(np.prod(shape))]) @ tf.constant(kernel) + tf.constant(bias),
            "spatial": tf.identity(spatial),
            "features": tf.reduce_mean(spatial, [1, 2]),
        }

    traced = tf.function(answer, input_signature=[picture])
    with quiet():
        # Imported after TensorFlow, which it would import aloud.
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(traced, input_signature=[picture], opset=_OPSET)
    _give_weights(model.graph, kernel, shape)
    return _same_each_time(model)


def complete(model: onnx.ModelProto, trained: np.ndarray, cloud: tuple[np.ndarray, np.ndarray], card: Card) -> bytes:
    """Puts in what was measured with the exported network.

    Args:
        model: from `export`.
        trained: (trained, channels), float32: the features of the pictures that it was trained on.
        cloud: their mean and matrix, from `metrics.whitening`.
        card: what the file says of itself.

    Returns:
        The content of an .onnx file.
    """
    mean, matrix = cloud
    length = np.linalg.norm(trained, axis=1, keepdims=True)
    constants = {
        "mean": mean,
        "matrix": matrix,
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
            helper.make_node("MatMul", ["from_mean", "matrix"], ["whitened"]),
            helper.make_node("ReduceL2", ["whitened", "channels"], ["strangeness"], keepdims=0),
            helper.make_node("ReduceL2", ["features", "channels"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "smallest"], ["divisor"]),
            helper.make_node("Div", ["features", "divisor"], ["direction"]),
            helper.make_node("MatMul", ["direction", "trained"], ["similarity"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("similarity", onnx.TensorProto.FLOAT, ["n", len(trained)]))
    graph.output.append(helper.make_tensor_value_info("strangeness", onnx.TensorProto.FLOAT, ["n"]))
    del model.metadata_props[:]
    helper.set_model_props(model, {"redarte": json.dumps(asdict(card), ensure_ascii=False)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _give_weights(graph: onnx.GraphProto, kernel: np.ndarray, shape: tuple[int, ...]) -> None:
    """Adds the dense layer's kernel, by place and channel, as an output: one Reshape of the weights that are there."""
    held = next(array.name for array in graph.initializer if tuple(array.dims) == kernel.shape)
    graph.initializer.append(numpy_helper.from_array(np.array([*shape, kernel.shape[1]]), "weights_shape"))
    graph.node.append(helper.make_node("Reshape", [held, "weights_shape"], ["weights"], "weights"))
    graph.output.append(helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [*shape, kernel.shape[1]]))


def _same_each_time(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names everything by its place in the graph: tf2onnx numbers what it folds in another order each time."""
    graph = model.graph
    named = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def rename(values: Any) -> None:
        for index, name in enumerate(values):
            if name and name not in named:
                values[index] = names.setdefault(name, f"t{len(names)}")

    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        rename(node.input)
        rename(node.output)
    arrays = sorted((array for array in graph.initializer if array.name in names), key=lambda a: int(names[a.name][1:]))
    ordered: list[onnx.ValueInfoProto] = sorted(graph.output, key=lambda value: str(value.name))
    fresh = onnx.GraphProto(name="redarte", node=graph.node, input=graph.input, output=ordered)
    for array in arrays:
        fresh.initializer.append(numpy_helper.from_array(numpy_helper.to_array(array), names[array.name]))
    for value in (*fresh.input, *fresh.output):
        if value.name != "weights":
            value.type.tensor_type.shape.dim[0].dim_param = "n"
    return helper.make_model(
        fresh, producer_name="redarte", ir_version=_ONNX_FORMAT, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
