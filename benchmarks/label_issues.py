"""How many wrong labels `redarte label-issues` finds, and what correcting them brings to the accuracy.

    python -m benchmarks.label_issues --models finetuned fisher red1

It runs in a clone in which the pipeline has run on images with right labels. Labels of the training images are swapped:
random ones to a random other artist, or to the artist with whom the image's artist is confused most often. Then the
images are ranked, and the first k (as many as were swapped) are relabelled to the predicted artist, or k random images
are relabelled by hand. The test images keep their right labels.

Labels do not decide the descriptors of finetuned (without phase two) and fisher, and the accuracy is that of the
classifier of label-issues, fitted to all training images. Red 1 to 3 are trained again with each set of labels.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.learning_curve import set_all, stage
from redarte import params
from redarte.inference.predictor import Predictor
from redarte.labelling import judgement
from redarte.labelling.corrections_file import listed
from redarte.labelling.findings import described
from redarte.params import STUDY
from redarte.runtime import paths

SHARES = (0.03, 0.1)
SEED = 0


class Images:
    """The training images of the clone, and the model's descriptors of them and of the test images.

    Attributes:
        artists: the classes.
        labels: (n,), int: the right labels of the training images.
        groups: (n,) near-duplicates that stay in one fold.
    """

    def __init__(self, model: str):
        rows = {row["image"]: row for row in listed()}
        predictor = Predictor(Path(f"models/{model}.onnx"))
        self.artists = predictor.metadata.artists
        ids, splits, self.descriptors, self.features = described(predictor)
        self.train, self.test = (np.array([split == name for split in splits]) for name in ("train", "test"))
        self.ids = np.array(ids)
        self.all_labels = np.array([self.artists.index(name.partition("/")[0]) for name in ids])
        self.labels = self.all_labels[self.train]
        self.groups = [rows[name]["near_duplicates"] or name for name in self.ids[self.train]]

    def judge(self, labels: np.ndarray, descriptors: np.ndarray, features: np.ndarray) -> judgement.Judgement:
        ids = [f"{self.artists[label]}/{number}" for number, label in enumerate(labels)]
        return judgement.judge(self.artists, ids, descriptors, features, self.groups, SEED)

    def accuracy(self, labels: np.ndarray) -> float:
        """The test accuracy of the classifier of label-issues, fitted to the training images with some labels."""
        components = judgement.principal_components(self.descriptors[self.train | self.test], SEED)
        is_train = self.train[self.train | self.test]
        fitted = judgement.classifier().fit(components[is_train], labels)
        return float((fitted.predict(components[~is_train]) == self.all_labels[self.test]).mean())


class Retrained:
    """A copy of the clone in which a model of the study is trained with other labels."""

    def __init__(self, model: str, images: Images, root: Path):
        self.model, self.images, self.root = model, images, root
        shutil.copytree("src", root / "src")
        shutil.copy("params.yaml", root)
        shutil.copytree("data/split", root / "data/split", copy_function=os.link)
        set_all(root / "params.yaml", [f"model={model}", "extra_models=[]"])
        self.files = {path.with_suffix("").relative_to("data/split/train").as_posix(): path
                      for path in Path("data/split/train").glob("*/*")}  # fmt: skip

    def train(self, labels: np.ndarray) -> float:
        """Trains with some labels; returns the test accuracy."""
        train = self.root / "data/split/train"
        shutil.rmtree(train)
        ids = self.images.ids[self.images.train]
        for number, (name, label) in enumerate(zip(ids, labels, strict=True)):
            folder = train / self.images.artists[label]
            folder.mkdir(parents=True, exist_ok=True)
            # Sorted by number, so that the descriptors can be matched.
            os.link(self.files[name], folder / f"{number:06d}{self.files[name].suffix}")
        shutil.copy(paths.IMAGES, self.root / paths.IMAGES)
        for command in (["augment"], ["resize"], ["train", self.model], ["export", self.model], ["evaluate"]):
            stage(self.root, *command)
        metrics = json.loads((self.root / "metrics/evaluate.json").read_text(encoding="utf-8"))
        return float(metrics["test_accuracy"])

    def described(self) -> tuple[np.ndarray, np.ndarray]:
        """The descriptors and features of the training images by the last model, in the order of `images`."""
        here = Path.cwd()
        os.chdir(self.root)
        try:
            ids, splits, descriptors, features = described(Predictor(Path(f"models/{self.model}.onnx")))
        finally:
            os.chdir(here)
        numbers = [int(name.rpartition("/")[2]) for name, split in zip(ids, splits, strict=True) if split == "train"]
        order = np.argsort(numbers)
        return descriptors[: len(order)][order], features[: len(order)][order]


def swap(labels: np.ndarray, share: float, partner: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Swaps a share of the labels; returns the new labels and the indices of the swapped ones.

    Args:
        labels: (n,).
        share: of the images.
        partner: (artists,): the new artist of each artist; None: a random one.
        count: the number of artists.
    """
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(labels), round(share * len(labels)), replace=False)
    swapped = labels.copy()
    for index in chosen:
        label = labels[index]
        swapped[index] = (label + rng.integers(1, count)) % count if partner is None else partner[label]
    return swapped, chosen


def rows(model: str, images: Images, root: Path) -> None:
    train = images.train
    retrained = Retrained(model, images, root) if model in STUDY else None
    confusion = np.zeros((len(images.artists), len(images.artists)))
    clean = images.judge(images.labels, images.descriptors[train], images.features[train])
    np.add.at(confusion, (images.labels, clean.predicted), 1)
    np.fill_diagonal(confusion, -1)
    partners = confusion.argmax(axis=1)
    measure = retrained.train if retrained else images.accuracy
    before = measure(images.labels)
    for kind, partner in (("random", None), ("confused", partners)):
        for share in SHARES:
            noisy, swapped = swap(images.labels, share, partner, len(images.artists))
            accuracy = measure(noisy)
            arrays = retrained.described() if retrained else (images.descriptors[train], images.features[train])
            found = images.judge(noisy, *arrays)
            wrong = set(swapped.tolist())
            k = len(wrong)
            ranking = found.worst_first()
            hits = [len(wrong & set(ranking[: times * k].tolist())) for times in (1, 2)]
            corrected, by_hand = noisy.copy(), noisy.copy()
            corrected[ranking[:k]] = found.predicted[ranking[:k]]
            looked_at = noisy.copy()
            looked_at[ranking[:k]] = images.labels[ranking[:k]]
            chosen = np.random.default_rng(SEED + 1).choice(len(noisy), k, replace=False)
            by_hand[chosen] = images.labels[chosen]
            cells = [before, accuracy, *map(measure, (corrected, looked_at, by_hand))]
            print(
                f"| {model} | {kind} {share:.0%} | {k} | {hits[0] / k:.2f} | {hits[1] / k:.2f} | {hits[1] / k / 2:.2f}"
                + "".join(f" | {cell:.3f}" for cell in cells)
                + " |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["finetuned", "fisher", "red1"])
    options = parser.parse_args()
    print(f"seed {params.load().seed}")
    print(
        "| model | swapped | k | precision and recall at k | recall at 2k | precision at 2k | accuracy, right labels | "
        "swapped | first k relabelled automatically | first k corrected by hand | k random ones corrected by hand |"
    )
    print("| --- | --- |" + " --- |" * 9, flush=True)
    for model in options.models:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            rows(model, Images(model), Path(folder))


if __name__ == "__main__":
    main()
