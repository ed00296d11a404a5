"""A trained network -> one ONNX file that answers by itself.

The file holds what a person needs to use the network without this project: the artists' names, the temperature that
makes its probabilities honest, the features of the pictures it was trained on, and how unlike them a picture may be.

Its input is `picture`, (n, side, side, 3) uint8, RGB, 0 to 255. Its outputs, float32:
- logits (n, artists): before the softmax;
- spatial (n, rows, columns, channels): what the last block saw where;
- weights (rows, columns, channels, artists), or (1, 1, channels, artists): logits are the sum of spatial · weights,
  plus a bias;
- features (n, features): what the picture is like, as the network sees it: what the last block saw, averaged over
  places, or how much of it is of each kind of patch;
- similarity (n, trained): the cosine between a picture's features and those of each picture that the network was
  trained on; -1 to 1;
- strangeness (n,): how far the features lie out of the cloud of the training pictures' features; 0 or more.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from redarte.backend import keras, quiet, tf
from redarte.errors import UserError
from redarte.layers import LEAST_VARIANCE, Deviation, FisherVector, by_region
from redarte.prediction import Card

_OPSET = 18
_REGIONS = 16  # each way: where a Fisher vector's evidence is looked for
_SMALLEST = 1e-12  # to divide by, where a picture lights nothing
_ONNX_FORMAT = 10  # the newest that onnxruntime has read for years
logging.getLogger("tf2onnx").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Parts:
    """A network, taken apart at its last layer.

    Attributes:
        look: pictures (n, side, side, 3) float32, 0 to 255 -> `spatial` (n, rows, columns, channels); what the last
            layer decides by (n, numbers), which for each channel, or each place and channel, is the sum of `spatial`
            over the places that share a weight; and `features` (n, features), which say what a picture is like.
        kernel, bias: of the last layer: (numbers, artists) and (artists,).
        shape: rows, columns and channels of the kernel; 1 row and 1 column where all places share their weights.
    """

    look: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
    kernel: np.ndarray
    bias: np.ndarray
    shape: tuple[int, ...]


def export(network: keras.Model) -> onnx.ModelProto:
    """Exports one of redarte's networks.

    The same network gives the same bytes. What depends on other pictures is not there yet: see `complete`.

    Returns:
        A model with the outputs logits, spatial, weights and features (n, channels).

    Raises:
        UserError: the network is another.
    """
    parts = _parts(network)
    picture = tf.TensorSpec((None, *network.input_shape[1:3], 3), tf.uint8, name="picture")

    def answer(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        spatial, described, features = parts.look(tf.cast(picture, tf.float32))
        return {
            "logits": described @ tf.constant(parts.kernel) + tf.constant(parts.bias),
            "spatial": tf.identity(spatial),
            "features": features,
        }

    model = _converted(tf.function(answer, input_signature=[picture]))
    _give_weights(model.graph, parts.kernel, parts.shape)
    return _same_each_time(model)


def _converted(answer: Any) -> onnx.ModelProto:
    """Says in ONNX what a traced function does, as it does it.

    tf2onnx.convert would go on to move transpositions about, one time in twenty in another way; onnxruntime does that
    when it opens the file.
    """
    with quiet():
        # Imported after TensorFlow, which it would import aloud.
        from tf2onnx import tf_loader, tfonnx

        concrete = answer.get_concrete_function()
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


def _parts(network: keras.Model) -> Parts:
    names = {layer.name for layer in network.layers}
    if [type(layer) for layer in network.layers[-2:]] == [keras.layers.Flatten, keras.layers.Dense]:
        return _parts_of_study(network)
    if {"described", "standardised", "artists"} <= names:
        return _parts_of_finetuned(network)
    if {"patches", "fisher", "artists"} <= names:
        return _parts_of_fisher(network)
    raise UserError(f"{network.name} is none of redarte's networks, and cannot be exported.")


def _parts_of_study(network: keras.Model) -> Parts:
    flatten, dense = network.layers[-2:]
    shape = tuple(flatten.input.shape[1:])
    trunk = keras.Model(network.inputs, flatten.input)

    def look(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        spatial = trunk(picture, training=False)
        return spatial, tf.reshape(spatial, [-1, int(np.prod(shape))]), tf.reduce_mean(spatial, [1, 2])

    return Parts(look, dense.kernel.numpy(), dense.bias.numpy(), shape)


def _parts_of_finetuned(network: keras.Model) -> Parts:
    """Splits up each mean, each deviation and the root of the covariance into what its places give to it.

    A mean is the sum of its places' values / n. A deviation d about a mean m is the sum of
    ((value - m)² + LEAST_VARIANCE) / (n d).
    """
    deviations = [layer for layer in network.layers if isinstance(layer, Deviation)]
    maps = [layer.input for layer in deviations]
    root = network.get_layer("root")
    trunk = keras.Model(network.inputs, [*maps, root.input])
    rows, columns = maps[-1].shape[1:3]
    dense, standardised = (network.get_layer(name) for name in ("artists", "standardised"))
    middle, variance = (weight.numpy() for weight in standardised.weights)
    kernel = dense.kernel.numpy() / np.sqrt(variance + standardised.epsilon)[:, None]
    bias = dense.bias.numpy() - middle @ kernel

    def look(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        described, spatial = [], []
        *seen_at, patches = trunk(picture, training=False)
        for seen in seen_at:
            mean = tf.reduce_mean(seen, [1, 2], keepdims=True)
            squares = tf.square(seen - mean) + LEAST_VARIANCE
            deviation = tf.sqrt(tf.reduce_mean(squares, [1, 2], keepdims=True))
            places = float(seen.shape[1] * seen.shape[2])
            described += [mean[:, 0, 0], deviation[:, 0, 0]]
            spatial += [_summed(seen / places, rows, columns), _summed(squares / (places * deviation), rows, columns)]
        # The means at the backbone's output say what a picture is like.
        features = described[-2]
        described.append(root(patches))
        spatial.append(root.regions(patches, rows, columns))
        return tf.concat(spatial, -1), tf.concat(described, -1), features

    return Parts(look, kernel.astype(np.float32), bias.astype(np.float32), (1, 1, len(kernel)))


def _parts_of_fisher(network: keras.Model) -> Parts:
    vector, dense = network.get_layer("fisher"), network.get_layer("artists")
    trunk = keras.Model(network.inputs, vector.input)

    def look(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        spatial, described = _by_region(vector, trunk(picture, training=False), _REGIONS, _REGIONS)
        # How much of a picture is of each kind of patch says what it is like.
        return spatial, described, described[:, : vector.kinds]

    kernel = dense.kernel.numpy()
    return Parts(look, kernel, dense.bias.numpy(), (1, 1, len(kernel)))


def _by_region(vector: FisherVector, patches: tf.Tensor, rows: int, columns: int) -> tuple[tf.Tensor, tf.Tensor]:
    """What each region gives to a Fisher vector (n, rows, columns, numbers), and the vector (n, numbers)."""
    regions = vector.gradients(patches, rows, columns)
    gradient = tf.reduce_sum(regions, [1, 2])
    scale = vector.scale(gradient)
    return regions * scale[:, None, None], gradient * scale


def _summed(seen: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Sums up a map (n, rows, columns, channels) to one of fewer places, each of about as many as any other."""
    return tf.reduce_sum(by_region(seen, rows, columns), 3)


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
