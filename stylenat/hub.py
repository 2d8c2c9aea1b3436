"""What a model repository of the Hugging Face hub is called, and the files in it."""

import re

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def is_repository(name: str) -> bool:
    """Whether ``name`` is one that a repository of the hub can have: user/name."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", name, re.ASCII) is not None
