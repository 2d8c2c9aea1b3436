"""Class labels of images in a folder or archive: kept in the data set, not used by training."""

import json
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from stylenat.errors import UserError
from stylenat.io import brief

CLASS = "class"  # the attribute that holds an image's class
LIST = "dataset.json"  # StyleGAN's


def read_classes(
    kind: str, where: str, names: Sequence[str], read: Callable[[str], bytes]
) -> list[str]:
    """The class of every image: ``folders``, the folder that it lies in, or ``dataset.json``.

    ``read`` gives the content of a file by its name. Raises :class:`UserError` where an image has
    no class.
    """
    if kind == "folders":
        labels = {name: PurePosixPath(name).parent.name for name in names}
    else:
        labels = _listed(where, read)
    for name in names:
        if not labels.get(name):
            raise UserError(
                f"{where}: {name} has no class by `classes: {kind}`; give it one, move it away, or "
                "remove the key `classes`."
            )
    return [labels[name] for name in names]


def _listed(where: str, read: Callable[[str], bytes]) -> dict[str, str]:
    try:
        entries = json.loads(read(LIST))["labels"] or []
        return {name: str(label) for name, label in entries}
    except (KeyError, FileNotFoundError):
        raise UserError(f"{where} has no {LIST} with `labels`.") from None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: {LIST} is not a list of pairs of file and class ({brief(error)})."
        ) from error
