"""A model card: README.md of a model repository, with the metadata that the Hugging Face hub reads.

The metadata's keys are those of https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from stylenat.config import ModelConfig
from stylenat.io import Json
from stylenat.records import Provenance
from stylenat.report.rows import MetricRow, model_name

LIBRARY = "stylenat"
TASK = {"type": "unconditional-image-generation", "name": "Unconditional image generation"}
NOT_STATED = "unknown"  # the hub's word for a licence that nobody stated
# Identifiers of licences that the hub accepts (of its long list, those that models and images have).
LICENCES = (
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "mit", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    *("openrail", "creativeml-openrail-m", "unlicense", "other", NOT_STATED),
)
# What a reader may expect to be measured, by the beginning of the metric's name.
EXPECTED = {
    "fid": "FID (Inception's features), the number that papers state",
    "precision": "whether samples look like images of the data set (precision)",
    "recall": "how much of the data set the samples cover (recall)",
    "copies": "whether samples repeat training images (copies)",
    "attribute": "how often samples have which attributes, and so whom or what they leave out",
}
# What has to be said of metrics whose names hold this.
LEGEND = {
    "lite0": "`lite0` is the features of an EfficientNet-lite0: `fd_lite0` is no FID.",
    "attribute_tv": "`attribute_tv_…` is the distance (total variation) between how often reals and "
    "samples have which attribute.",
}
INTENDED = (
    "Research on generative models, and pictures in the style of the data set. The pictures are "
    "made up. They are not evidence of anything, and not meant to deceive: say of what "
    "you show that it was generated. What the data set lacks or shows too often, so does the model."
)
CITATION = f"""\
The network follows the paper below. It was made with the package `{LIBRARY}`, a reproduction of the
paper, whose CITATION.cff says how to cite it.

```bibtex
@article{{walton2022stylenat,
  title  = {{{{StyleNAT}}: Giving Each Head a New Perspective}},
  author = {{Walton, Steven and Hassani, Ali and Xu, Xingqian and Wang, Zhangyang and Shi, Humphrey}},
  journal = {{arXiv preprint arXiv:2211.05770}},
  year   = {{2022}}
}}
```"""


@dataclass(frozen=True)
class Published:
    """What a card is about. ``rows`` are those of our metric tables that measured these weights, and
    the floors of the same metrics."""

    name: str
    model: ModelConfig
    provenance: Provenance
    weights: str  # name of the file
    digest: str  # its SHA-256
    samples: str  # name of the picture
    seeds: str
    truncation: float | None
    licence: str  # of the weights
    rows: Sequence[MetricRow] = ()
    repository: str | None = None  # user/name

    @property
    def measured(self) -> list[MetricRow]:
        return [row for row in self.rows if row.kind == "snapshot"]

    @property
    def dataset(self) -> str | None:
        """The training data's name, if the weights or the tables know it."""
        data = self.provenance.data
        return data.name if data else self._experiment.get("dataset")

    @property
    def _experiment(self) -> Json:
        return self.provenance.experiment or {}


def write_card(about: Published) -> str:
    """The text of README.md: metadata between two lines ``---``, then the card."""
    header = yaml.safe_dump(metadata(about), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{header}---\n\n{_body(about)}"


def metadata(about: Published) -> Json:
    """The card's header as plain types, keys of the hub."""
    header: Json = {
        **_licence(about.licence),
        "library_name": LIBRARY,
        "pipeline_tag": TASK["type"],
        "tags": ["gan", "stylegan", LIBRARY, "neighborhood-attention", "arxiv:2211.05770"],
    }
    if about.dataset:
        header["datasets"] = [about.dataset]
    if about.measured:
        header["metrics"] = list(dict.fromkeys(row.metric for row in about.measured))
        header["model-index"] = [{"name": about.name, "results": _results(about)}]
    return header


def _licence(licence: str) -> dict[str, str]:
    if licence in LICENCES:
        return {"license": licence}
    return {"license": "other", "license_name": re.sub(r"[^\w.]+", "-", licence.lower()).strip("-")}


def _results(about: Published) -> list[Json]:
    """Against the training images, and against held-out ones where there were any."""
    results = []
    for split, key in (("train", "value"), ("held-out", "held_out")):
        rows = [row for row in about.measured if getattr(row, key) is not None]
        if rows:
            first = rows[0]
            dataset = {
                "type": first.dataset,
                "name": f"{first.dataset} at {first.resolution}²",
                "split": split,
            }
            metrics = [_metric(row, key) for row in rows]
            results.append({"task": dict(TASK), "dataset": dataset, "metrics": metrics})
    return results


def _metric(row: MetricRow, key: str) -> Json:
    kept = ["protocol", "better", "sets", "n_generated", "extractor", "filter", "commit"]
    kept += ["std", "n_real"] if key == "value" else ["held_out_std", "n_real_held_out"]
    cells = row.model_dump(exclude_none=True)
    arguments = {name: cells[name] for name in kept if name in cells}
    name = f"{row.metric} by the protocol {row.protocol}"
    return {"type": row.metric, "name": name, "value": cells[key], "args": arguments}


def _body(about: Published) -> str:
    truncation = "without truncation" if about.truncation is None else f"ψ = {about.truncation:g}"
    parts = [
        f"# {about.name}",
        f"![Samples]({about.samples})",
        f"*Samples of the seeds {about.seeds}, {truncation}; nothing is picked.*",
        _made(about),
        "## Intended use",
        INTENDED,
        "## Data and licences",
        _data(about),
        "## What was measured",
        _measured(about),
        "## What was not measured",
        _not_measured(about),
        "## Sampling",
        _sampling(about),
        "## Citation",
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _made(about: Published) -> str:
    known, side = about.provenance, about.model.image_size
    text = f"A {model_name(about.model)} generator ([arXiv 2211.05770](https://arxiv.org/abs/2211.05770)) "
    text += f"of images of {side} × {side} pixels"
    if known.parameters:
        text += f", {known.parameters:,} parameters"
    training = about._experiment.get("training") or {}
    steps = []
    if known.step is not None:
        steps.append(f"{known.step:,} iterations")
    if known.images_seen is not None:
        steps.append(f"{known.images_seen:,} images seen")
    if training.get("batch_size"):
        steps.append(f"batches of {training['batch_size']}")
    if training.get("seed") is not None:
        steps.append(f"seed {training['seed']}")
    text += f". Trained for {', '.join(steps)}." if steps else ". How it was trained is not known."
    if training.get("start_from"):
        text += f" It started from other weights ({training['start_from']['mode']})."
    if known.checkpoint:
        text += f" Converted from the checkpoint {known.checkpoint} (SHA-256 `{known.checkpoint_sha256}`)."
    if known.commit:
        text += f" Commit of the code: `{known.commit}`."
    return f"{text} `config.json` has all settings; SHA-256 of `{about.weights}`: `{about.digest}`."


def _data(about: Published) -> str:
    data = about.provenance.data
    text = f"Trained on {about.dataset}" if about.dataset else "What it was trained on is not known"
    if data and data.count:
        text += f": {data.count:,} images"
    if data and data.filter:
        how = "not resized" if data.filter == "none" else f"resized by {data.filter}"
        text += f" at {about.model.image_size}² ({how})"
    if data and data.content_sha256:
        text += f", SHA-256 of their pixels `{data.content_sha256}`"
    for key, words in (("dataset_creator", "made by"), ("dataset_licence", "licence of the data:")):
        found = next((getattr(row, key) for row in about.rows if getattr(row, key)), None)
        if found is not None:
            text += f"; {words} {found}"
        elif key == "dataset_licence":
            text += "; the licence of the data is not stated here"
    licence = "not stated" if about.licence == NOT_STATED else about.licence
    return f"{text}.\n\nLicence of the weights: {licence}."


def _measured(about: Published) -> str:
    if not about.measured:
        return "Nothing: no table of measurements came with these weights."
    floors = {(row.protocol, row.metric): row for row in about.rows if row.kind == "floor"}
    lines = [
        "| metric | protocol | value | against held-out images | real images | samples | reals |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in about.measured:
        arrow = "↓" if row.better == "lower" else "↑"
        floor = floors.get((row.protocol, row.metric))
        cells = [
            f"`{row.metric}` {arrow}",
            f"`{row.protocol}`",
            _spread(row.value, row.std),
            _spread(row.held_out, row.held_out_std),
            _number(None if floor is None else floor.value),
            f"{row.n_generated:,} × {row.sets}",
            f"{row.n_real:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    notes = [
        f"- `{row.metric}`: {' '.join(row.note.split())}" for row in about.measured if row.note
    ]
    legend = (
        "↓ lower is better, ↑ higher. ± is the standard deviation over sets of samples (samples × sets). "
        "Real images are the floor: what a perfect generator would get. Values of different protocols, "
        "feature networks or filters do not compare."
    )
    for part, text in LEGEND.items():
        if any(part in row.metric for row in about.measured):
            legend += f" {text}"
    return "\n\n".join([table, legend] + (["\n".join(notes)] if notes else []))


def _not_measured(about: Published) -> str:
    names = [row.metric for row in about.measured]
    missing = [
        text
        for start, text in EXPECTED.items()
        if not any(re.match(rf"{start}(_|$)", name) for name in names)
    ]
    if about.measured and not any(row.held_out is not None for row in about.measured):
        missing.append("the distance from images that were held out of training")
    missing.append("what people think of the samples")
    return "\n".join(f"- {text}" for text in missing)


def _sampling(about: Published) -> str:
    side, source = about.model.image_size, about.repository or about.weights
    return (
        "```python\nimport stylenat\n\n"
        f'images = stylenat.generate("{source}", seeds=range(16))  # uint8 (16, {side}, {side}, 3)\n'
        f"```\n\nor, as one PNG for each seed, `stylenat sample --weights {source} --seeds 0-15 "
        "--output samples`. A seed gives the same picture whatever else is sampled with it."
    )


def _spread(value: float | None, std: float | None) -> str:
    return _number(value) + ("" if std is None else f" ± {_number(std)}")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}"
