"""How fast backbones compute features, as in phase one of finetuned, and how many parameters they have.

    python -m benchmarks.backbones --side 224

The weights are random: they change no time, and nothing is downloaded. The preset of keras-hub is written with the
published sizes of DINOv2's small model. The rounds of all backbones alternate, and the medians are compared.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from redarte import params
from redarte.models import backbones
from redarte.params import Finetuned

NAMES = (
    "EfficientNetV2B0", "MobileNetV3Large", "ResNet50", "EfficientNetV2S", "ConvNeXtTiny", "ConvNeXtBase",
    "DINOv2 small",
)  # fmt: skip
BATCH = 8
ROUNDS = 5


def dinov2_small(folder: Path) -> str:
    """Writes DINOv2's small model with random weights as a preset of keras-hub, and returns its name."""
    import keras_hub

    sizes = {"patch_size": 14, "num_layers": 12, "hidden_dim": 384, "num_heads": 6, "intermediate_dim": 1536}
    models = keras_hub.models
    models.DINOV2Backbone(position_embedding_shape=(518, 518), image_shape=(224, 224, 3), **sizes).save_to_preset(
        folder
    )
    keras_hub.layers.ImageConverter(scale=1 / 255).save_to_preset(folder)
    return f"keras_hub:{folder}"


def section(name: str, side: int, folder: Path) -> Finetuned:
    backbone = dinov2_small(folder) if name == "DINOv2 small" else name
    changes = {"backbone": backbone, "weights": "none", "input_size": side}
    return params.load().finetuned.model_copy(update=changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224, help="of the images, in px")
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (BATCH, options.side, options.side, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        loaded = {name: backbones.load(section(name, options.side, Path(folder))) for name in options.names}
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for round_ in range(ROUNDS + 1):
        for name, backbone in loaded.items():
            started = time.perf_counter()
            backbone.predict_on_batch(images)
            if round_:  # the first compiles
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    print("| backbone | million parameters | images a second | relative time |")
    print("| --- | --- | --- | --- |")
    for name, median in medians.items():
        million = loaded[name].count_params() / 1e6
        print(f"| {name} | {million:.1f} | {BATCH / median:.1f} | {median / first:.1f} |")


if __name__ == "__main__":
    main()
