"""A feature network anyone can compute, image sets, and the step `statistics` on them."""

from argparse import Namespace

import numpy as np
import torch
from torch import nn

from stylenat.data.writer import write_store
from stylenat.evaluation import features
from stylenat.evaluation.network import FeatureNetwork
from stylenat.steps import statistics


class Colours(FeatureNetwork):
    """Mean red, green and blue, scaled: features anyone can compute."""

    dimension = 3

    def __init__(self, weights):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))
        self.load_weights(weights)

    def features(self, pixels):
        return pixels.mean((2, 3)) * self.scale


def install(folder, monkeypatch):
    """Make the network known as ``colours`` and write its weights; returns the folder."""
    monkeypatch.setitem(features.NETWORKS, "colours", Colours)
    torch.save({"scale": torch.tensor([1.0, 0.5, 2.0])}, folder / "colours.pth")
    return folder


def random_images(seed, count, side=8):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def store(path, images, **metadata):
    values = {"name": "photos", "filter": "lanczos", "source": "", "licence": "", "notes": ""}
    write_store(path, images, values | metadata)
    return path


def compute(workplace, *images, subset="all", weights="colours.pth", output="out.npz", keep=False):
    statistics.run(
        Namespace(
            images=list(images),
            subset=subset,
            features=keep,
            extractor="colours",
            weights=workplace / weights,
            output=workplace / output,
            device=torch.device("cpu"),
        )
    )
    return workplace / output


def expected_features(images):
    return images.mean((1, 2)) * [1.0, 0.5, 2.0]
