"""vitrine.photo_files: what a photo's file holds, wherever it lies and whatever it is called, or why it is not read."""

import hashlib
import os
import socket
from datetime import UTC, datetime
from io import BytesIO

import pytest
from PIL import Image

from vitrine import photo_files
from vitrine.images import ImageError


def jpeg() -> bytes:
    """320 x 240 pixels."""
    out = BytesIO()
    Image.linear_gradient("L").resize((320, 240)).save(out, "JPEG")
    return out.getvalue()


JPEG = jpeg()


def failure(operation, uri):
    with pytest.raises(ImageError) as caught:
        operation(str(uri))
    assert str(uri) not in str(caught.value) or not str(uri)
    return caught.value.code, str(caught.value)


OPERATIONS = [photo_files.stat, photo_files.read, photo_files.check]


@pytest.fixture
def shoe(tmp_path):
    path = tmp_path / "shoe.jpg"
    path.write_bytes(JPEG)
    return path


def test_check(shoe):
    os.utime(shoe, ns=(0, 1_700_000_000_123_456_789))
    found = photo_files.check(str(shoe))
    assert found.content_sha256 == hashlib.sha256(shoe.read_bytes()).hexdigest()
    assert (found.size, found.width, found.height) == (shoe.stat().st_size, 320, 240)
    assert found.modified_at == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert photo_files.stat(str(shoe)) == photo_files.Stat(found.size, found.modified_at)
    assert photo_files.read(str(shoe)) == shoe.read_bytes()


def test_time_before_1970(shoe):
    os.utime(shoe, ns=(0, -1))
    assert photo_files.stat(str(shoe)).modified_at == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_missing(tmp_path, operation):
    assert failure(operation, tmp_path / "none.jpg") == ("missing", "no such file")
    assert failure(operation, "") == ("missing", "no such file")
    (tmp_path / "file").touch()
    assert failure(operation, tmp_path / "file" / "below") == ("missing", "no such file")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert failure(operation, tmp_path / "dangling") == ("missing", "no such file")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_regular_files(tmp_path, monkeypatch, operation):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("listening.jpg")
        for uri in (str(tmp_path), "fifo.jpg", "listening.jpg", "/dev/zero"):
            code, reason = failure(operation, uri)
            assert code == "unreadable" and "not a regular file" in reason


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_no_file_can_have(operation):
    for uri in ("a\0b", "a" * 5000, "\ud800", "file:///a%00b", "file://elsewhere/a.jpg"):
        assert failure(operation, uri)[0] == "unreadable"


def test_a_pipe_put_in_place_after_the_first_look_does_not_hang(tmp_path, monkeypatch, shoe):
    os.mkfifo(tmp_path / "pipe")
    seen, look = shoe.stat(), os.stat
    monkeypatch.setattr(os, "stat", lambda path: look(path) if isinstance(path, int) else seen)
    assert failure(photo_files.read, tmp_path / "pipe")[0] == "unreadable"


def test_permission(shoe):
    shoe.chmod(0)
    if os.access(shoe, os.R_OK):
        pytest.skip("this user may read everything")
    assert failure(photo_files.read, shoe) == ("unreadable", "permission denied")


def test_permission_is_told_from_other_failures(shoe, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(shoe))

    monkeypatch.setattr(os, "open", refuse)
    assert failure(photo_files.read, shoe) == ("unreadable", "permission denied")


def test_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(photo_files.MAX_BYTES + 1)
    assert photo_files.stat(str(path)).size == photo_files.MAX_BYTES + 1
    for operation in (photo_files.read, photo_files.check):
        code, reason = failure(operation, path)
        assert code == "too_large" and str(photo_files.MAX_BYTES) in reason


def test_empty_file(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert photo_files.read(str(tmp_path / "a.jpg")) == b""
    assert failure(photo_files.check, tmp_path / "a.jpg")[0] == "empty"


@pytest.mark.parametrize(
    "name",
    [
        "with space.jpg",
        'it\'s "quoted".jpg',
        "new\nline\r\t.jpg",
        "100%.jpg",
        "%41.jpg",
        "a#b?c=d&e.jpg",
        "schuh-größe-鞋-👟.jpg",
        os.fsdecode(b"latin-\xe9.jpg"),
        "file:a.jpg",
        "s3:a.jpg",
        "-rf",
        "~",
        "$(x);`y`*",
    ],
)
def test_hostile_names(tmp_path, monkeypatch, shoe, name):
    data = shoe.read_bytes()
    (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    assert photo_files.read(name) == data
    assert photo_files.read(str(tmp_path / name)) == data
    assert photo_files.read(f"../{tmp_path.name}/{name}") == data
    assert photo_files.read((tmp_path / name).as_uri()) == data


def test_file_uris(tmp_path, shoe):
    (tmp_path / "a b#c?d%.jpg").write_bytes(b"x")
    for uri in (
        f"file://{tmp_path}/a%20b%23c%3Fd%25.jpg",
        f"file://localhost{tmp_path}/a%20b%23c%3fd%25.jpg",
        f"file:{tmp_path}/a%20b%23c%3Fd%25.jpg",
        f"FILE://{tmp_path}/a%20b%23c%3Fd%25.jpg",
        f"file:{tmp_path}/a b#c?d%.jpg",  # as Hadoop writes it
    ):
        assert photo_files.read(uri) == b"x"
    assert failure(photo_files.read, f"file://{tmp_path}/none%20.jpg") == ("missing", "no such file")


def test_a_path_is_not_percent_decoded(tmp_path):
    (tmp_path / "A.jpg").write_bytes(b"x")
    assert failure(photo_files.read, tmp_path / "%41.jpg")[0] == "missing"


# --- remote


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that answers as s3://shop/."""
    fs = pytest.importorskip("pyarrow.fs")
    asked = []

    def filesystem(root):
        asked.append(root)
        return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "shop"

    monkeypatch.setattr(photo_files, "_filesystem", filesystem)
    (tmp_path / "shop" / "folder").mkdir(parents=True)
    return tmp_path / "shop", asked


def test_remote(bucket, monkeypatch):
    folder, asked = bucket
    data = JPEG
    for name in ("a b.jpg", "packed.gz"):
        (folder / "folder" / name).write_bytes(data)
    assert photo_files.read("s3://shop/folder/packed.gz") == data
    found = photo_files.check("s3://shop/folder/a%20b.jpg?region=eu-west-1")
    assert found.content_sha256 == hashlib.sha256(data).hexdigest()
    assert found.modified_at == photo_files.stat(str(folder / "folder" / "a b.jpg")).modified_at
    assert photo_files.stat("s3://shop/folder/a b.jpg").size == len(data)
    assert asked == ["s3://shop/", "s3://shop/?region=eu-west-1", "s3://shop/"]
    assert failure(photo_files.read, "s3://shop/none.jpg") == ("missing", "no such file")
    assert failure(photo_files.read, "s3://shop/folder")[0] == "unreadable"
    monkeypatch.setattr(photo_files, "MAX_BYTES", 10)
    assert failure(photo_files.read, "s3://shop/folder/a b.jpg")[0] == "too_large"


def test_remote_failures_are_reasons_without_secrets(monkeypatch):
    def fail(root):
        raise OSError(f"cannot reach '{root}' at {root}\nwith detail")

    monkeypatch.setattr(photo_files, "_filesystem", fail)
    code, reason = failure(photo_files.read, "s3://key:secret@shop/a.jpg")
    assert code == "unreadable" and "secret" not in reason and "\n" not in reason and "cannot reach" in reason


def test_unknown_scheme():
    assert failure(photo_files.read, "gopher://host/a.jpg")[0] == "unreadable"


def test_filesystem_is_made_once_for_a_bucket():
    pytest.importorskip("pyarrow.fs")
    first = photo_files._filesystem("mock:///")
    assert photo_files._filesystem("mock:///") is first


# --- content


def test_text_named_as_a_photo(tmp_path):
    path = tmp_path / "shoe.jpg"
    path.write_text("<html>404 Not Found</html>")
    with pytest.raises(ImageError) as caught:
        photo_files.check(str(path))
    assert caught.value.code == "not_an_image"


def test_content_counts_not_the_name(tmp_path):
    path = tmp_path / "shoe.png"
    path.write_bytes(JPEG)
    assert photo_files.check(str(path)).width == 320


def test_a_turned_photo_has_the_size_that_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 16)).save(tmp_path / "turned.jpg", exif=exif)
    checked = photo_files.check(str(tmp_path / "turned.jpg"))
    assert (checked.width, checked.height) == (16, 32)
