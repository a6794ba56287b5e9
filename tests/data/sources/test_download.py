import hashlib
import io
import tarfile
from urllib.error import URLError

import pytest

from attar.data.sources import download
from attar.errors import AttarError

CONTENTS = b"published" * 1000
MD5 = hashlib.md5(CONTENTS).hexdigest()


class Answer(io.BytesIO):
    headers = {"Content-Length": str(len(CONTENTS))}  # noqa: RUF012


@pytest.fixture
def site(monkeypatch):
    """A site that answers with the contents, or raises them."""

    def serve(contents):
        def urlopen(url, timeout):
            if isinstance(contents, Exception):
                raise contents
            return Answer(contents)

        monkeypatch.setattr(download, "urlopen", urlopen)

    return serve


def test_a_file_is_fetched_whole(site, tmp_path):
    site(CONTENTS)
    download.fetch("https://example.org/file", tmp_path / "new" / "file", MD5)
    assert (tmp_path / "new" / "file").read_bytes() == CONTENTS
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["file"]


def test_a_wrong_checksum_leaves_nothing(site, tmp_path):
    site(CONTENTS[:-1])
    with pytest.raises(AttarError, match=f"expected md5 {MD5}"):
        download.fetch("https://example.org/file", tmp_path / "file", MD5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [URLError("no network"), TimeoutError("timed out"), ConnectionResetError("reset")])
def test_no_network_says_what_to_do(site, tmp_path, failure):
    site(failure)
    with pytest.raises(AttarError, match=r"data\.root=") as caught:
        download.fetch("https://example.org/file", tmp_path / "file", MD5)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, contents in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return path


def test_an_archive_is_unpacked_beside_itself(tmp_path):
    file = archive(tmp_path / "a.tar.gz", {"data/one": b"1"})
    assert (download.unpack(file, "data") / "one").read_bytes() == b"1"
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.tar.gz", "data"}


@pytest.mark.parametrize("name", ["../outside", "data/../../outside"])
def test_a_path_that_leads_outside_is_refused(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    file = archive(inner / "a.tar.gz", {"data/one": b"1", name: b"2"})
    with pytest.raises(AttarError, match="cannot unpack"):
        download.unpack(file, "data")
    assert not list(tmp_path.rglob("outside"))
    assert [entry.name for entry in inner.iterdir()] == ["a.tar.gz"]


def test_a_damaged_archive_is_refused(tmp_path):
    file = archive(tmp_path / "a.tar.gz", {"data/one": bytes(range(256)) * 100})
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AttarError, match="cannot unpack"):
        download.unpack(file, "data")


def test_an_archive_without_the_folder_is_refused(tmp_path):
    with pytest.raises(AttarError, match="cannot unpack"):
        download.unpack(archive(tmp_path / "a.tar.gz", {"other/one": b"1"}), "data")


def test_a_folder_that_lacks_files_is_not_overwritten(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(AttarError, match="lacks files; remove it"):
        download.unpack(archive(tmp_path / "a.tar.gz", {"data/one": b"1"}), "data")
