"""A model repository: what is in it, that its numbers are of its weights, and what an upload sends."""

import base64
import json
import os
import subprocess
import sys
from hashlib import sha256 as digest_of

import numpy as np
import pytest
import yaml
from PIL import Image

import stylenat
from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.hub import is_repository
from stylenat.io import read_json, sha256
from stylenat.models import Generator, read_header, save_generator
from stylenat.models.latents import generate
from stylenat.pictures import tile
from stylenat.records import Provenance
from stylenat.report.rows import MetricRow
from stylenat.steps import publish
from tests.project import ROOT
from tests.server import ModelHub, serving
from tests.tiny import experiment

CARD = ("README.md", "config.json", "model.safetensors", "samples.png")


def row(digest: str | None, metric: str = "fd_lite0", **values) -> MetricRow:
    cells = {
        "experiment": "tiny", "dataset": "photos", "resolution": 16, "table": "metrics",
        "kind": "snapshot", "step": 400, "protocol": metric, "metric": metric, "better": "lower",
        "value": 123.456, "std": 1.25, "sets": 3, "n_generated": 2048, "n_real": 10000,
        "extractor": "lite0", "filter": "lanczos", "generator_sha256": digest,
        "versions": "python 3.12", "commit": "0123456789", "dataset_licence": "CC0 | mostly",
        "dataset_creator": "nobody",
    }  # fmt: skip
    return MetricRow(**cells | values)


def floor(metric: str = "fd_lite0", **values) -> MetricRow:
    return row(None, metric, kind="floor", step=None, value=0.625, std=None, **values)


def table(path, *rows):
    MetricRow.frame(rows).to_csv(path, index=False)
    return path


def run(weights, output, **options):
    defaults = {"licence": "cc-by-4.0", "seeds": "0-3", "device": "cpu"}
    publish.run(weights=weights, output=output, **defaults | options)
    return output


def parts(folder):
    """(metadata, body) of the card."""
    empty, header, body = (folder / "README.md").read_text().split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(header), body


def test_a_folder_holds_weights_configuration_card_and_samples(weights, tmp_path):
    folder = run(weights, tmp_path / "out", truncation=0.7)
    assert tuple(sorted(path.name for path in folder.iterdir())) == CARD
    assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()
    config = read_json(folder / "config.json")
    model, provenance = read_header(weights)
    assert ModelConfig(**config["model"]) == model and config["provenance"] == provenance.to_dict()
    assert config["weights"] == {"file": "model.safetensors", "sha256": sha256(weights)}
    pictures = list(generate(publish.load_generator(weights), range(4), 0.7))
    with Image.open(folder / "samples.png") as image:
        assert (np.asarray(image) == tile(np.stack(pictures))).all()
        assert image.text == {"seeds": "0-3", "truncation": "0.7"}


def test_the_card_without_tables_says_that_nothing_was_measured(weights, tmp_path):
    header, body = parts(run(weights, tmp_path))
    assert header["license"] == "cc-by-4.0" and header["library_name"] == "stylenat"
    assert header["pipeline_tag"] == "unconditional-image-generation" and header["datasets"] == [
        "photos"
    ]
    assert "model-index" not in header and "metrics" not in header
    assert "Nothing: no table" in body and "FID (Inception's" in body
    assert "400 iterations, 6,400 images seen" in body and sha256(weights) in body
    assert (
        "the licence of the data is not stated" in body and 'generate("model.safetensors", ' in body
    )
    assert "![Samples](samples.png)" in body and "2211.05770" in body


def test_numbers_are_the_rows_of_these_weights_with_protocol_and_floor(weights, tmp_path):
    digest = sha256(weights)
    metrics = table(
        tmp_path / "metrics.csv",
        row(digest, held_out=130.5, n_real_held_out=500, note="two\nlines"),
        floor(),
        row(digest, "recall_lite0", value=0.5, std=None, sets=1, better="higher"),
        floor("copies_lite0"),
        row("0" * 64, "kid_lite0", value=7.75),
    )
    again = table(tmp_path / "fd.csv", row("1" * 64, value=9.5), row(digest), floor())
    header, body = parts(run(weights, tmp_path / "out", tables=[metrics, again]))
    assert header["metrics"] == ["fd_lite0", "recall_lite0"]
    (model,) = header["model-index"]
    train, held_out = model["results"]
    assert model["name"] == "tiny" and train["dataset"]["type"] == "photos"
    assert train["task"]["type"] == "unconditional-image-generation"
    assert [it["value"] for it in train["metrics"]] == [123.456, 0.5]
    arguments = train["metrics"][0]["args"]
    assert (arguments["protocol"], arguments["n_real"], arguments["sets"]) == ("fd_lite0", 10000, 3)
    assert arguments["commit"] == "0123456789" and arguments["std"] == 1.25
    assert held_out["dataset"]["split"] == "held-out"
    (only,) = held_out["metrics"]
    assert only["value"] == 130.5 and only["args"]["n_real_held_out"] == 500
    assert "std" not in only["args"]
    line = "| `fd_lite0` ↓ | `fd_lite0` | 123.5 ± 1.25 | 130.5 | 0.625 | 2,048 × 3 | 10,000 |"
    assert body.count(line) == 1
    assert "| `recall_lite0` ↑ | `recall_lite0` | 0.500 |  |  | 2,048 × 1 | 10,000 |" in body
    assert "- `fd_lite0`: two lines" in body
    assert "made by nobody; licence of the data: CC0 | mostly" in body
    missing = body.partition("## What was not measured")[2].partition("##")[0]
    assert "(recall)" not in missing and "held out of" not in missing
    assert "(precision)" in missing and "FID (Inception's" in missing and "(copies)" in missing
    assert "7.75" not in body and "9.50" not in body
    assert "`fd_lite0` is no FID" in body and "total variation" not in body
    assert "&" not in (tmp_path / "out/README.md").read_text(), "no alias of YAML"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", r"t\.csv is not a result table of ours"),
        ("", r"t\.csv cannot be read "),
        (b"\xff\xfe\x00\x81", r"t\.csv"),
        (None, r"t\.csv cannot be read "),
    ],
)
def test_what_is_no_table_is_one_sentence(weights, tmp_path, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        run(weights, tmp_path / "out", tables=[path])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("column", ["sets", "n_real", "resolution"])
def test_a_column_that_the_card_needs_is_named(weights, tmp_path, column):
    frame = MetricRow.frame([row(sha256(weights))]).drop(columns=column)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=f"has no column {column}; give a table"):
        run(weights, tmp_path / "out", tables=[tmp_path / "t.csv"])


def test_a_table_of_other_weights_is_refused(weights, tmp_path):
    path = table(tmp_path / "t.csv", row("0" * 64), floor())
    with pytest.raises(
        UserError, match=f"no measurement of these weights .SHA-256 {sha256(weights)}"
    ):
        run(weights, tmp_path / "out", tables=[path])


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("mit", {"license": "mit"}),
        ("unknown", {"license": "unknown"}),
        ("My own, 2", {"license": "other", "license_name": "my-own-2"}),
    ],
)
def test_licences_are_identifiers_of_the_hub_or_named(weights, tmp_path, caplog, licence, expected):
    header, body = parts(run(weights, tmp_path, licence=licence))
    assert {k: v for k, v in header.items() if k.startswith("license")} == expected
    assert ("no --licence is given" in caplog.text) == (licence == "unknown")
    assert f"Licence of the weights: {'not stated' if licence == 'unknown' else licence}." in body


def test_paths_in_the_header_are_named_before_they_become_public(tmp_path, caplog):
    config = experiment()
    record = config.to_dict()
    record["training"]["start_from"] = {"mode": "finetune", "file": "/home/me/secret/x.pt"}
    save_generator(
        tmp_path / "x.safetensors", Generator(config.model), Provenance(experiment=record)
    )
    _, body = parts(run(tmp_path / "x.safetensors", tmp_path / "out"))
    assert "names /home/me/secret/x.pt, which becomes public" in caplog.text
    assert "started from other weights (finetune)" in body and "secret" not in body
    assert "Trained on dots" in body and "batches of 8, seed 3" in body


def test_publishing_a_folder_into_itself_keeps_the_weights(weights, tmp_path):
    folder = run(weights, tmp_path)
    before = (folder / "model.safetensors").read_bytes()
    run(folder / "model.safetensors", folder)
    assert (folder / "model.safetensors").read_bytes() == before


# ------------------------------------------------------------------------------ upload


class Hub:
    """What is called of huggingface_hub, with its names of arguments."""

    def __init__(self, fails=None):
        self.calls, self.fails = [], fails

    def HfApi(self):
        return self

    def create_repo(self, repo_id, *, repo_type=None, exist_ok=False):
        self.calls.append(("create", repo_id, repo_type, exist_ok))

    def upload_folder(
        self, *, repo_id, folder_path, repo_type=None, allow_patterns=None, commit_message=None
    ):
        if self.fails:
            raise self.fails
        self.calls.append(("upload", repo_id, folder_path, tuple(sorted(allow_patterns))))
        return f"https://hub/{repo_id}/tree/main"


@pytest.fixture
def hub(monkeypatch):
    stand_in = Hub()
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    return stand_in


def test_an_upload_sends_what_was_written_and_nothing_else(weights, tmp_path, hub, caplog):
    caplog.set_level("INFO")
    (tmp_path / "private.txt").write_text("mine")
    run(weights, tmp_path, push="me/faces")
    assert hub.calls == [
        ("create", "me/faces", "model", True),
        ("upload", "me/faces", str(tmp_path), CARD),
    ]
    assert "https://hub/me/faces/tree/main" in caplog.text
    body = parts(tmp_path)[1]
    assert body.lstrip().startswith("# faces\n") and 'generate("me/faces", ' in body


def test_what_the_hub_refuses_is_one_sentence(weights, tmp_path, hub):
    hub.fails = RuntimeError("401 Client Error.\n\nUnauthorized for url")
    with pytest.raises(UserError) as error:
        run(weights, tmp_path / "out", push="me/faces")
    assert "RuntimeError: 401 Client Error. Unauthorized for url); log in" in str(error.value)
    assert "\n" not in str(error.value)
    assert tuple(sorted(path.name for path in (tmp_path / "out").iterdir())) == CARD


@pytest.mark.parametrize("name", ["faces", "a/b/c", "https://hub/me/x", "me/", "../x", "me/ä"])
def test_names_that_no_repository_has_are_refused_first(weights, tmp_path, hub, name):
    assert not is_repository(name)
    with pytest.raises(UserError, match="is no name of a repository; write user/name"):
        run(weights, tmp_path / "out", push=name)
    assert not (tmp_path / "out").exists() and hub.calls == []


def test_without_the_package_there_is_one_sentence_first(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        run(weights, tmp_path / "out", push="me/faces")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------ huggingface_hub itself


class UploadHub(ModelHub):
    """The hub's addresses that an upload uses, too."""

    def do_POST(self):
        content = self._read()
        self.server.asked.append(self.path)
        repository = f"{self.server.url}/me/faces"
        if self.headers["Authorization"] != "Bearer hf_mine":
            self._tell(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self._tell(200, {"url": repository})
        elif self.path == "/api/validate-yaml":
            yaml.safe_load(json.loads(content)["content"].split("---\n")[1])
            self._tell(200, {"errors": [], "warnings": []})
        elif self.path == "/api/models/me/faces/preupload/main":
            self._tell(200, {"files": [
                {
                    "path": file["path"],
                    "uploadMode": "regular" if file["path"].endswith(("md", "json")) else "lfs",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]})  # fmt: skip
        elif self.path == "/me/faces.git/info/lfs/objects/batch":
            objects = [
                it | {"actions": {"upload": {"href": f"{self.server.url}/large/{it['oid']}"}}}
                for it in json.loads(content)["objects"]
            ]
            self._tell(200, {"transfer": "basic", "objects": objects})
        elif self.path == "/api/models/me/faces/commit/main":
            self._commit([json.loads(line) for line in content.splitlines()])
            oid = "0" * 40
            self._tell(200, {"commitUrl": f"{repository}/commit/{oid}", "commitOid": oid})

    def do_PUT(self):
        self.server.files[self.path] = self._read()
        self._tell(200, {})

    def _commit(self, entries):
        for entry in entries:
            value, name = entry["value"], f"/me/faces/resolve/main/{entry['value'].get('path')}"
            if entry["key"] == "file":
                self.server.files[name] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                large = self.server.files.pop(f"/large/{value['oid']}")
                assert digest_of(large).hexdigest() == value["oid"]
                self.server.files[name] = large

    def _read(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _tell(self, status, record):
        self.answer(status, json.dumps(record).encode(), {"Content-Type": "application/json"})


def push(weights, output, url, token):
    """The command, because huggingface_hub reads these variables when it is imported."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    environment = os.environ | {
        "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(output / "hf"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "stylenat.steps.publish", "--weights", weights]
    command += ["--output", output, "--seeds", "0-3", "--device", "cpu", "--push", "me/faces"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_what_is_uploaded_is_what_others_load(weights, tmp_path, monkeypatch):
    with serving(UploadHub) as server:
        done = push(weights, tmp_path, server.url, "hf_mine")
        assert done.returncode == 0, done.stderr
        assert f"me/faces: {server.url}/me/faces/commit/0000" in done.stderr
        sent = {path.rpartition("/")[2]: content for path, content in server.files.items()}
        assert sent == {name: (tmp_path / name).read_bytes() for name in CARD}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        (found,) = stylenat.generate("me/faces", [3])
    assert (found == next(generate(publish.load_generator(weights), [3]))).all()


def test_an_upload_without_a_login_is_one_sentence(weights, tmp_path):
    with serving(UploadHub) as server:
        done = push(weights, tmp_path, server.url, "hf_wrong")
    assert done.returncode == 1 and server.files == {}
    last = done.stderr.splitlines()[-1]
    assert "error: me/faces could not be uploaded" in last and "log in with" in last
    run(weights, tmp_path / "out")
