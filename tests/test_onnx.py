"""ONNX files compute what the generator computes, and the page in a browser what Python does."""

import json
import re
import sys
import tarfile
from base64 import b64decode
from gzip import decompress

import numpy as np
import pytest
import torch

from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.images import to_pixels
from stylenat.interop.onnx import to_onnx
from stylenat.io import sha256
from stylenat.models import Generator, load_generator
from stylenat.models.latents import generate, latents, mean_style, render, styles
from stylenat.report import play as page
from stylenat.steps import export, play
from tests.browser import CHROMIUM, Browser
from tests.project import ROOT
from tests.tiny import MODEL
from tests.weights import fill

RUNTIME = ROOT / "results/weights/onnxruntime-web.tgz"

# Every kind of block, a side that a dilation does not divide, and kernels as wide as the map.
EVERY_BLOCK = MODEL | {
    "image_size": 32,
    "block": ["full", "full", "windows", "hydra"],
    "kernels": [[3], [3], [4], [3, 7]],
    "dilations": [[1], [1], [1], [5, 1]],
    "channel_base": 256,
}


def packages() -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)


def generator_of(**changes) -> Generator:
    generator = Generator(ModelConfig(**(MODEL | changes)))
    generator.load_state_dict(fill(generator.state_dict()))
    return generator.eval().requires_grad_(False)


def session_of(content: bytes):
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@torch.no_grad()
def assert_same(generator: Generator, source: str) -> None:
    """Within 1e-4 of the generator's own units, whatever the batch."""
    session = session_of(to_onnx(generator, source, {"made": "here"}))
    assert session.get_modelmeta().custom_metadata_map["made"] == "here"
    assert [it.name for it in session.get_inputs()] == [source]
    for batch in (1, 3):
        z = latents(range(batch), generator.config.style_dim)
        w = generator.mapping(z)
        if source == "z":
            given = z
        else:  # another style for every block
            other = generator.mapping(
                latents(range(100, 100 + batch * generator.config.latents), len(z[0]))
            )
            given = w = other.view(batch, generator.config.latents, -1)
        images, *rest = session.run(None, {source: given.numpy()})
        expected = (to_pixels(generator.synthesis(w)) / 255).numpy()
        assert ((expected > 0) & (expected < 1)).mean() > 0.5, "hidden by clipping"
        np.testing.assert_allclose(images, expected.clip(0, 1), rtol=0, atol=2e-5)
        for found in rest:
            np.testing.assert_allclose(found, w.numpy(), rtol=0, atol=1e-4)
        assert len(rest) == (source == "z")


@pytest.mark.parametrize("source", ("z", "w"))
def test_every_kind_of_block_exports(source):
    packages()
    assert_same(generator_of(**EVERY_BLOCK), source)


def test_neighbourhoods_without_bias_export():
    packages()
    assert_same(generator_of(relative_position_bias=False), "z")


def test_the_step_writes_a_file_that_says_whose_it_is(weights, tmp_path):
    packages()
    export.run(weights=weights, source="z", output=tmp_path / "x.onnx")
    session = session_of((tmp_path / "x.onnx").read_bytes())
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["generator_sha256"] == sha256(weights)
    images, _ = session.run(None, {"z": latents([5], 32).numpy()})
    picture = np.floor(255 * images[0] + 0.5).transpose(1, 2, 0)
    assert np.abs(picture - next(generate(load_generator(weights), [5]))).max() <= 1


def test_a_missing_package_is_one_sentence_first(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = {"weights": weights, "output": tmp_path / "out"}
    for step, options in ((export, {"source": "z"}), (play, {"runtime": tmp_path / "none"})):
        with pytest.raises(UserError, match="is not installed; .* pip install onnx"):
            step.run(**arguments, **options)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_one_sentence(tmp_path, monkeypatch, capsys):
    packages()
    path = tmp_path / "x.safetensors"
    path.write_text("no weights")
    with pytest.raises(UserError, match="is truncated or not a generator of ours .it is text"):
        export.run(weights=path, source="w", output=tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    arguments = ["export", "--weights", str(path), "--from", "x", "--output", "x.onnx"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        export.main()
    assert capsys.readouterr().err.count("argument --from: invalid choice: 'x'") == 1


# ------------------------------------------------------------------------------ the page


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for npm's package."""
    with tarfile.open(tmp_path / "runtime.tgz", "w:gz") as archive:
        for number, member in enumerate(page.FILES.values()):
            (tmp_path / "file").write_bytes(b"file %d" % number)
            archive.add(tmp_path / "file", member)
    monkeypatch.setattr(page, "RUNTIME_SHA256", sha256(tmp_path / "runtime.tgz"))
    return tmp_path / "runtime.tgz"


def test_a_page_holds_everything_that_it_needs(package, tmp_path):
    facts = page.Facts("</script> & more", "About.", 16, 3, (4, 8, 16), 2)
    w, mean = np.arange(6, dtype=np.float32).reshape(2, 3), np.full(3, 0.5, np.float32)
    runtime = page.read_runtime(package)
    page.write_play(tmp_path / "play.html", facts, b"a model", w, mean, runtime)
    text = (tmp_path / "play.html").read_text()
    found = dict(re.findall(r'<script type="[\w/]+" id="(\w+)">(.*?)</script>', text))
    assert json.loads(found.pop("facts"))["title"] == "</script> & more"
    parts = {name: decompress(b64decode(content)) for name, content in found.items()}
    assert parts == {
        "runtime": b"file 0", "wasm": b"file 1", "model": b"a model", "w": w.tobytes(), "mean": mean.tobytes(),
    }  # fmt: skip
    # Nothing is loaded from elsewhere.
    assert not re.search(r'(src|href)="(?!https://onnxruntime\.ai")', text)


def test_another_runtime_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.tgz cannot be read .*; get it with `npm pack onnx"):
        page.read_runtime(tmp_path / "none.tgz")
    (tmp_path / "page.tgz").write_text("<!doctype html>")
    with pytest.raises(UserError, match=r"is not the npm package .* HTML page.*; get it with `npm"):
        page.read_runtime(tmp_path / "page.tgz")


@pytest.fixture(scope="module")
def browser(weights, tmp_path_factory):
    """The page of `weights`, opened from disk in Chromium."""
    packages()
    if CHROMIUM is None:
        pytest.skip("needs Chromium (chromium, chromium-browser or google-chrome)")
    if not RUNTIME.exists():
        pytest.skip(f"needs {RUNTIME}; `snakemake {RUNTIME.relative_to(ROOT)}` downloads it")
    folder = tmp_path_factory.mktemp("page")
    play.run(weights=weights, runtime=RUNTIME, output=folder / "play.html")
    browser = Browser(folder / "profile")
    browser.open(folder / "play.html", 1100, 800)
    yield browser
    browser.close()


def shown(browser: Browser, name: str = "mixed") -> np.ndarray:
    """The pixels of a canvas, when nothing is computed any more: uint8 (S, S, 3)."""
    script = f"""new Promise(resolve => setInterval(() => {{
        if (!/ready|failed/.test(document.body?.dataset.state)) return;
        const canvas = document.getElementById("{name}");
        const picture = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        resolve([document.body.dataset.state, canvas.width, Array.from(picture.data)]);
    }}, 20))"""
    state, side, values = browser.evaluate(script)
    assert state == "ready", browser.evaluate('document.getElementById("status").textContent')
    return np.array(values, np.uint8).reshape(side, side, 4)[..., :3]


def move(browser: Browser, **values: float) -> None:
    """Set sliders, as a hand does."""
    for name, value in values.items():
        browser.evaluate(
            f'{{const it = document.querySelector("[name={name}]"); it.value = {value};'
            "it.dispatchEvent(new Event('input', {bubbles: true}))}"
        )


def near(a: np.ndarray, b: np.ndarray) -> bool:
    return np.abs(a.astype(int) - b).max() <= 1


def test_the_page_shows_what_python_samples(browser, weights):
    generator = load_generator(weights)
    first, second = generate(generator, range(2))
    assert near(shown(browser), first) and near(shown(browser, "second"), second)
    move(browser, first=42, psi=0.7)
    assert near(shown(browser), next(generate(generator, [42], 0.7)))
    assert near(shown(browser, "second"), next(generate(generator, [1], 0.7)))
    # Two of three levels, one of them in part.
    move(browser, second=99, psi=1.2, level1=0.25, level2=1)
    a, b = styles(generator, [42, 99])
    share = torch.tensor([0, 0, 0.25, 0.25, 1, 1])[:, None]
    mean = mean_style(generator)
    w = mean + 1.2 * (torch.lerp(a, b, share) - mean)
    picture = shown(browser)
    assert near(picture, next(render(generator, w[None])))
    assert not near(picture, shown(browser, "first")) and not near(
        picture, shown(browser, "second")
    )


def test_a_click_changes_the_picture(browser):
    before = shown(browser)
    x, y = browser.evaluate(
        """(() => {const it = document.querySelector("[name=first]").getBoundingClientRect();
        return [it.left + it.width / 4, it.top + it.height / 2]})()"""
    )
    browser.click(x, y)
    seed = browser.evaluate('document.querySelector("[name=first]").value')
    assert 20 < int(seed) < 30
    assert not near(shown(browser), before)
