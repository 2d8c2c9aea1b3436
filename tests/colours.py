"""A feature network anyone can compute, image sets, and the step `statistics` on them."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from stylenat.data import codec
from stylenat.data.writer import StoreWriter, write_store
from stylenat.metrics.extractors import features
from stylenat.metrics.extractors.base import FeatureNetwork
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
    values = {"name": "photos", "filter": "lanczos", "source": "", "licence": "", "notes": []}
    write_store(path, images, values | metadata)
    return path


HAIR = {"#2c1b18": (44, 27, 24), "#a55728": (165, 87, 40), "#e8e1e1": (232, 225, 225)}


def portraits(path, colours, seed=0, known=True, **metadata):
    """A store of noisy images, each of the colour that its attribute hairColor says."""
    random = np.random.default_rng(seed)
    values = {"name": "photos", "filter": "lanczos", "source": "", "licence": "", "notes": []}
    with StoreWriter(path) as writer:
        for colour in colours:
            noise = random.normal(0, 20, (8, 8, 3)) + random.normal(0, 4, 3)
            pixels = np.clip(noise + HAIR[colour], 0, 255).astype(np.uint8)
            attributes = {"hairColor": colour, "strokeColor": "#000000"} if known else None
            writer.append(codec.encode(Image.fromarray(pixels), codec.RAW, attributes))
        writer.finish(values | {"resolution": 8, "codec": codec.RAW} | metadata)
    return path


def compute(workplace, *images, subset="all", weights="colours.pth", output="out.npz", keep=False):
    statistics.run(
        images=list(images),
        subset=subset,
        features=keep,
        extractor="colours",
        weights=workplace / weights,
        output=workplace / output,
        device="cpu",
    )
    return workplace / output


def expected_features(images):
    return images.mean((1, 2)) * [1.0, 0.5, 2.0]
