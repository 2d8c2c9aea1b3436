"""The configuration that is shipped, with one value replaced by a nasty one: it resolves, or one
sentence begins with the key."""

import copy
import datetime
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from stylenat.errors import ConfigError
from stylenat.experiments import refuse_duplicate_keys, resolve
from tests.fuzz import Place, damages, fuzzed, outcome, places, replaced, sentence
from tests.project import ROOT

TEXT = (ROOT / "config/config.yaml").read_text()
CONFIG = yaml.safe_load(TEXT)

# What YAML can give, and hands or programs have given.
NASTY = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**32, 2**63, 2**64, 10**18, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan),
    *("", " ", "auto", "1e-4", "nan", "a\nb", "../..", "\0", "\ud800", "é" * 300, "{experiment}"),
    *([], [[]], [None], [0], [["hydra"]], [math.nan], {}, {"a": 1}, {None: None}, {1: 2}),
    *(datetime.date(2000, 1, 1), datetime.datetime(2000, 1, 1), b"bytes", {1, 2}),
)


def changed(place: Place, value: Any) -> dict[str, Any]:
    return replaced(CONFIG, place, value)


PLACES = list(places(CONFIG))


@fuzzed(800, place=st.sampled_from(PLACES), value=st.sampled_from(NASTY))
def test_a_nasty_value_resolves_or_is_refused_by_its_key(place, value):
    check(changed(place, value), place)


@fuzzed(
    300, place=st.sampled_from(PLACES), key=st.sampled_from(NASTY), value=st.sampled_from(NASTY)
)
def test_a_nasty_key_resolves_or_is_refused(place, key, value):
    config = copy.deepcopy(CONFIG)
    target = config
    for part in place:
        target = target[part]
    if isinstance(target, dict) and not isinstance(key, dict | list | set):
        target[key] = value
        check(config, ())


def check(config: dict[str, Any], place: Place) -> None:
    try:
        experiments, _ = resolve(config)
    except ConfigError as error:
        assert sentence(error).partition(":")[0]
        return
    for experiment in experiments.values():
        assert experiment.snapshots
        assert experiment.config.to_dict()


FOLDER = TemporaryDirectory(prefix="fuzz-")  # removed when Python ends


@fuzzed(300, data=damages(TEXT.encode()))
def test_a_damaged_file_is_read_or_refused(data):
    path = Path(FOLDER.name) / "config.yaml"
    path.write_bytes(data)
    outcome(refuse_duplicate_keys, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1: this is not valid YAML"),
        ("a: 1\n? [b]\n: 2\n", "line 2: a key has to be a word"),
        ("a: \x01", "this is not valid YAML"),
        ("a: !!python/object:os.system {}", "this is not valid YAML"),
        ("[" * 5000, "this is not valid YAML"),
        ('"a\\nb": 1\n"a\\nb": 2\n', r"line 2: a\\nb is there twice"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        refuse_duplicate_keys(path)
    sentence(caught.value)


def test_training_that_is_no_mapping_is_refused_in_variants_too():
    variants = ("ablations", "faces32-ladder", "variants", "flips", "training")
    with pytest.raises(ConfigError, match=r"faces32-ladder.variants.flips.training: 3 is not"):
        resolve(changed(variants, 3))
