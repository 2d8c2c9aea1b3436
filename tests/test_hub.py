"""Generators by folder, address and name: against a local server that answers as the hub does."""

import json
import subprocess
import sys

import pytest
import torch

import stylenat
from stylenat import fetch, hub
from stylenat.errors import UserError
from stylenat.io import read_json, sha256
from stylenat.models import Generator, save_generator
from stylenat.records import Provenance
from stylenat.steps import sample
from tests.server import ModelHub, serving
from tests.tiny import experiment


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache/stylenat"


@pytest.fixture
def host(weights, cache, monkeypatch):
    with serving(ModelHub) as server:
        server.files["/me/faces/resolve/main/model.safetensors"] = weights.read_bytes()
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        yield server


@pytest.fixture
def offline(cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def same(generator, path):
    expected = stylenat.load_generator(path).state_dict()
    found = generator.state_dict()
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) for key in found
    )


def other(path):
    save_generator(path, Generator(experiment().model), Provenance(step=1))
    return path


def test_a_name_is_downloaded_once_and_then_used_offline(weights, host, cache, monkeypatch):
    assert same(stylenat.load_generator("me/faces"), weights)
    url = f"{host.url}/me/faces/resolve/main/model.safetensors"
    assert read_json(cache / "checksums.json") == {url: sha256(weights)}
    host.files.clear()
    host.asked.clear()
    assert same(stylenat.load_generator("me/faces"), weights)
    assert stylenat.generate("me/faces", [0]).shape == (1, 16, 16, 3)
    assert host.asked == []


def test_an_address_is_downloaded_once(weights, host):
    host.files["/x.safetensors"] = weights.read_bytes()
    for _ in range(2):
        assert same(stylenat.load_generator(f"{host.url}/x.safetensors"), weights)
    assert host.asked == ["/x.safetensors"]


def test_two_names_are_two_files(weights, host, tmp_path):
    host.files["/me/other/resolve/main/model.safetensors"] = other(
        tmp_path / "o.safetensors"
    ).read_bytes()
    assert same(stylenat.load_generator("me/faces"), weights)
    assert same(stylenat.load_generator("me/other"), tmp_path / "o.safetensors")
    assert same(stylenat.load_generator("me/faces"), weights)


def test_what_is_here_has_precedence(weights, host, tmp_path):
    mine = tmp_path / "me/faces/model.safetensors"
    other(mine)
    assert same(stylenat.load_generator("me/faces"), mine)
    assert same(stylenat.load_generator(tmp_path / "me/faces"), mine)
    (tmp_path / "you").mkdir()
    other(tmp_path / "you/faces")
    assert same(stylenat.load_generator("you/faces"), tmp_path / "you/faces")
    assert host.asked == []


@pytest.mark.parametrize("source", ["none", "weights/400.safetensors", "a/b/c", "/none/x"])
def test_paths_that_are_not_there_are_not_asked_for(host, source):
    with pytest.raises(UserError, match=f"^{source} does not exist"):
        stylenat.load_generator(source)
    assert host.asked == []


def test_a_path_is_never_a_name(host, tmp_path):
    with pytest.raises(UserError, match="^me/faces does not exist"):
        stylenat.load_generator(hub.Path("me/faces"))
    assert host.asked == []


def test_a_folder_without_weights_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is a folder without model.safetensors; give"):
        stylenat.load_generator(tmp_path)


def test_a_damaged_file_in_the_cache_is_fetched_again(weights, host, cache):
    stylenat.load_generator("me/faces")
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert same(stylenat.load_generator("me/faces"), weights)
    assert path.read_bytes() == weights.read_bytes()


def test_what_an_address_gave_first_it_must_give_again(host, cache, tmp_path):
    stylenat.load_generator("me/faces")
    (path,) = cache.glob("*.safetensors")
    path.unlink()
    changed = other(tmp_path / "o.safetensors")
    host.files["/me/faces/resolve/main/model.safetensors"] = changed.read_bytes()
    with pytest.raises(UserError, match=r"sha256 is .* not .*first download, in .*checksums\.json"):
        stylenat.load_generator("me/faces")
    assert not path.exists()
    (cache / "checksums.json").unlink()
    assert same(stylenat.load_generator("me/faces"), changed)


def test_offline_without_the_file_is_one_sentence(offline, cache):
    with pytest.raises(UserError) as error:
        stylenat.load_generator("me/faces")
    text = str(error.value)
    assert text.startswith(
        f"no copy in the cache {cache}, and http://127.0.0.1:9/me/faces/resolve/"
    )
    assert "could not be downloaded" in text and "\n" not in text


def test_a_name_that_the_hub_does_not_have_is_one_sentence(host):
    with pytest.raises(UserError, match="no copy in the cache .*the host answered 401"):
        stylenat.load_generator("me/none")
    assert len(host.asked) == 1


def test_a_download_that_is_no_generator_is_named_for_what_it_is(host):
    host.files["/x"] = b'{"error": "no"}'
    with pytest.raises(UserError, match="not a generator of ours .it is JSON"):
        stylenat.load_generator(f"{host.url}/x")


def test_a_cache_that_cannot_be_made_is_one_sentence(host, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be used to keep .*set XDG_CACHE_HOME"):
        stylenat.load_generator("me/faces")


def test_processes_side_by_side_download_once(host, cache):
    code = "from stylenat.hub import local_weights; print(local_weights('me/faces'))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in both)
    assert first == second != ""
    assert len(host.asked) == 2  # the name, and where that leads to
    assert len(json.loads((cache / "checksums.json").read_text())) == 1


def test_steps_take_what_load_generator_takes(weights, host, tmp_path, monkeypatch, capsys):
    publish = tmp_path / "me2"
    publish.mkdir()
    (publish / "model.safetensors").write_bytes(weights.read_bytes())
    pictures = []
    for number, source in enumerate((weights, publish, "me/faces")):
        output = tmp_path / f"{number}"
        arguments = ["--weights", source, "--seeds", "3", "--output", output, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["sample", *map(str, arguments)])
        sample.main()
        pictures.append((output / "000003.png").read_bytes())
    assert pictures[0] == pictures[1] == pictures[2]
    monkeypatch.setattr(sys, "argv", ["sample", "--weights", str(tmp_path), "--seeds", "3"])
    with pytest.raises(SystemExit):
        sample.main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"error: argument --weights: {tmp_path} is a folder without model.safetensors" in last


def test_where_the_hub_and_the_cache_are(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert hub.address("me/x") == "https://huggingface.co/me/x/resolve/main/model.safetensors"
    assert str(hub.cache_folder()) == "/home/me/.cache/stylenat"
