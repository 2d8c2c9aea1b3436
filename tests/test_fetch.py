"""Downloads against a local server that breaks off, ignores ranges, or sends a web page."""

import hashlib
import json
import subprocess
import sys

import pytest

from stylenat import fetch
from stylenat.errors import UserError
from stylenat.fetch import download
from stylenat.io import read_json
from stylenat.steps import weights

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def host(host):
    """It has a single file, at ``url``."""
    host.url += "/file"
    host.files["/file"] = CONTENT
    return host


def in_turn(*faults):
    """What goes wrong at the next requests, one after the other."""
    left = iter(faults)
    return lambda path: next(left, None)


def test_a_broken_connection_is_resumed_where_it_ended(host, tmp_path):
    host.fault = in_turn("break", 503, "break")
    heard = []
    path = tmp_path / "deep" / "file"
    download(
        host.url, path, sha256=SHA256, md5=MD5, size=len(CONTENT), report=lambda *a: heard.append(a)
    )
    assert path.read_bytes() == CONTENT
    first, second, third, fourth = (
        int(value.removeprefix("bytes=").rstrip("-")) if value else 0 for value in host.ranges
    )
    half = len(CONTENT) // 2
    assert first == 0
    assert half - fetch.CHUNK < second == third <= half
    assert fourth > third
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_killed_download_is_continued_by_the_next_call(host, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(host.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert host.ranges == ["bytes=1000-"]


def test_bytes_of_another_file_are_thrown_away_once(host, tmp_path):
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    download(host.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert host.ranges == ["bytes=1000-", None]


def test_too_many_old_bytes_are_thrown_away(host, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"x")
    download(host.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_all_bytes_there_but_not_renamed(host, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(host.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_host_without_ranges_sends_everything_again(host, tmp_path):
    host.fault = in_turn("break", "whole")
    download(host.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_good_file_is_kept_and_a_bad_one_replaced(host, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    download(host.url, path, sha256=SHA256)
    assert host.ranges == []
    path.write_bytes(b"old")
    download(host.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"sha256": "00"}, f"sha256 is {SHA256}"),
        ({"md5": "00"}, f"md5 is {MD5}"),
        ({"size": 7}, "size"),
    ],
)
def test_a_file_that_does_not_pass_never_takes_its_name(host, tmp_path, expected, message):
    with pytest.raises(UserError, match=message):
        download(host.url, tmp_path / "file", **expected)
    assert list(tmp_path.iterdir()) == []
    assert host.ranges == [None]


def test_a_web_page_is_retried_then_named(host, tmp_path):
    host.fault = in_turn("page")
    download(host.url, tmp_path / "file", sha256=SHA256)
    host.fault = lambda path: "page"
    with pytest.raises(UserError, match=r"web page instead of the file.*\(3 attempts\)"):
        download(host.url, tmp_path / "other", attempts=3)
    assert not (tmp_path / "other").exists()


def test_what_is_not_there_is_not_retried(host, tmp_path):
    host.files.clear()
    with pytest.raises(UserError, match="404"):
        download(host.url, tmp_path / "file")
    assert host.ranges == [None]


def test_a_host_that_is_not_there_ends_in_a_sentence(host, tmp_path):
    with pytest.raises(UserError, match=r"could not be downloaded.*\(2 attempts\).*continues"):
        download("http://127.0.0.1:9/file", tmp_path / "file", attempts=2)


@pytest.mark.parametrize(
    "url",
    [
        "https://drive.google.com/uc?id=1A_b-c",
        "https://drive.google.com/uc?export=download&id=1A_b-c",
        "https://drive.google.com/file/d/1A_b-c/view",
    ],
)
def test_google_drive_is_asked_for_the_file_itself(monkeypatch, tmp_path, url):
    asked = []

    class Session:
        def get(self, url, **_):
            asked.append(url)
            raise fetch.requests.exceptions.InvalidURL("enough")

    with pytest.raises(UserError, match="enough"):
        download(url, tmp_path / "file", session=Session())
    assert asked[0].startswith("https://drive.usercontent.google.com/download?id=1A_b-c&")


# ------------------------------------------------------------------------- the step `weights`


def run(source, output):
    lock = output.parent / "config/downloads.lock"
    weights.run(name="net", source=json.dumps(source), output=output, lock=lock)


def test_weights_by_url(host, tmp_path, caplog):
    run({"url": host.url, "sha256": SHA256}, tmp_path / "a.pth")
    run({"url": host.url, "sha256": None}, tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes() == CONTENT
    assert SHA256 in caplog.text
    with pytest.raises(UserError, match=f"sha256 is {SHA256}, not 00"):
        run({"url": host.url, "sha256": "00"}, tmp_path / "c.pth")


def test_what_a_url_gave_first_it_must_give_again(host, tmp_path, monkeypatch):
    """Though the configuration has no checksum, and the first file is gone."""
    source, lock = {"url": host.url, "sha256": None}, tmp_path / "config/downloads.lock"
    run(source, tmp_path / "a.pth")
    assert read_json(lock) == {host.url: SHA256}
    (tmp_path / "a.pth").unlink()
    run(source, tmp_path / "a.pth")
    other = hashlib.sha256(b"another").hexdigest()
    lock.write_text(json.dumps({"https://elsewhere": other, host.url: other}))
    with pytest.raises(
        UserError, match=f"not {other}.*first download, in .*downloads.lock; delete"
    ):
        run(source, tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()
    lock.write_text(json.dumps({"https://elsewhere": other}))
    run(source, tmp_path / "b.pth")
    assert read_json(lock) == {host.url: SHA256, "https://elsewhere": other}


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_lock_file_that_is_none_is_one_sentence(host, tmp_path, content):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/downloads.lock").write_text(content)
    with pytest.raises(UserError, match=r"downloads\.lock"):
        run({"url": host.url, "sha256": None}, tmp_path / "a.pth")


def test_checksums_of_two_processes_are_both_kept(tmp_path):
    code = "import sys; from stylenat.pins import pin; [pin(sys.argv[1], {f'{sys.argv[2]}{i}': 'x'}) for i in range(40)]"
    lock = tmp_path / "downloads.lock"
    both = [subprocess.Popen([sys.executable, "-c", code, lock, name]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert len(read_json(lock)) == 80


def test_weights_from_a_package_and_from_a_path(tmp_path, monkeypatch):
    (tmp_path / "netpackage").mkdir()
    (tmp_path / "netpackage" / "__init__.py").touch()
    (tmp_path / "netpackage" / "net.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    source = {"package": "netpackage", "path": "net.pth", "sha256": SHA256}
    run(source, tmp_path / "a.pth")
    run({"path": str(tmp_path / "a.pth"), "sha256": SHA256}, tmp_path / "b.pth")
    assert (tmp_path / "b.pth").read_bytes() == CONTENT
    with pytest.raises(UserError, match=f"has sha256 {SHA256}, not 00"):
        run(source | {"sha256": "00"}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="absent is not installed"):
        run(source | {"package": "absent"}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="cannot be read"):
        run(source | {"path": "other.pth"}, tmp_path / "c.pth")
    for wrong in ({"URL": "x"}, [], "x", None):
        with pytest.raises(UserError, match="^weights.net is .*give url and sha256"):
            run(wrong, tmp_path / "c.pth")
    assert not (tmp_path / "c.pth").exists()
