"""The example of docs/natten.md: a model of the field on `stylenat.natten`."""

import importlib
import re
import sys

import pytest
import torch

from stylenat.models.attention import use_backend
from tests.attention import normal
from tests.project import ROOT

sys.path.insert(0, str(ROOT))  # docs is no part of the package
nat_mini = importlib.import_module("docs.nat_mini")


@pytest.fixture
def small():
    """The model with windows of 3x3, so that an image of 96² is large enough."""
    torch.manual_seed(0)
    return nat_mini.NATMini(classes=10, kernel_size=3)


def test_as_many_parameters_as_the_paper_says():
    with torch.device("meta"):
        model = nat_mini.NATMini()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6) == 20
    assert f"It has {count:,} parameters" in (ROOT / "docs/natten.md").read_text()
    layers = [
        it for it in model.modules() if isinstance(it, nat_mini.natten.NeighborhoodAttention2D)
    ]
    heads = [it.num_heads for it in layers]
    assert heads == [2] * 3 + [4] * 4 + [8] * 6 + [16] * 5
    assert all(it.rpb.shape == (it.num_heads, 13, 13) for it in layers)


def test_it_runs_and_trains(small):
    image = normal("image", (1, 3, 96, 96))
    logits = small(image)
    assert logits.shape == (1, 10)
    logits.logsumexp(-1).sum().backward()
    zero = [name for name, it in small.named_parameters() if not it.grad.abs().sum() > 0]
    assert not zero
    with torch.inference_mode():
        with use_backend("reference"):
            expected = small(image)
        torch.testing.assert_close(small(image), expected, rtol=0, atol=1e-5)


def test_too_small_an_image_is_refused(small):
    with pytest.raises(ValueError, match="kernel size 3 x dilation 1 = 3 exceeds the height 2"):
        small(torch.zeros(1, 3, 64, 96))


def test_the_page_quotes_the_example():
    quoted = re.findall(r"```python\n(self.*?)\n```", (ROOT / "docs/natten.md").read_text())
    assert len(quoted) == 1 and quoted[0] in (ROOT / "docs/nat_mini.py").read_text()
