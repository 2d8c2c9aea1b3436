"""The two networks and the file format of their weights."""

from stylenat.models.discriminator import Discriminator
from stylenat.models.generator import Generator
from stylenat.models.weights import load_generator, read_header, save_generator

__all__ = ["Discriminator", "Generator", "load_generator", "read_header", "save_generator"]
