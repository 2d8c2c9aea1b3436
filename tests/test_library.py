"""The package as a library: names that are imported when they are used, arrays in, numbers out."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stylenat
from stylenat.steps import sample

README = Path(__file__).parents[1] / "README.md"


def test_importing_the_package_imports_no_library():
    code = (
        "import sys, stylenat; dir(stylenat); "
        "assert not {'torch', 'numpy', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", stylenat.__all__)
def test_every_listed_name_is_there(name):
    assert getattr(stylenat, name).__name__ == name and name in dir(stylenat)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'genrate'"):
        stylenat.genrate  # noqa: B018


def test_generated_images_are_those_that_the_step_writes(weights, tmp_path, monkeypatch):
    arguments = ["--weights", weights, "--seeds", "3,1", "--output", tmp_path, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["sample", *map(str, arguments)])
    sample.main()
    images = stylenat.generate(weights, [3, 1])
    for seed, image in zip((3, 1), images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / f"{seed:06d}.png")))


def test_metrics_of_arrays():
    random = np.random.default_rng(0)
    real, same, far = random.standard_normal((3, 400, 8)).astype(np.float32)
    far += 9
    # Two Gaussians of equal covariance: the squared distance of their means, 9² in each of 8.
    assert stylenat.fid(real, far) == pytest.approx(8 * 81, rel=0.02)
    assert stylenat.fid(real, real) == pytest.approx(0, abs=1e-9)
    assert abs(stylenat.kid(real, same)) < 0.1 < stylenat.kid(real, far)
    assert stylenat.prdc(real, far) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    assert all(value > 0.7 for value in stylenat.prdc(real, same).values())


def test_the_lines_in_the_readme_run(weights, tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for name, seed in (("real", 0), ("generated", 1)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).standard_normal((300, 8)))
    shutil.copy(weights, tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(re.sub(r'"results/\S+\.safetensors"', '"x.safetensors"', lines), {})  # noqa: S102
