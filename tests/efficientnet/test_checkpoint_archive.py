"""Directories and archives of checkpoints, sound, damaged and hostile."""

import io
import pathlib
import re
import shutil
import tarfile
import tempfile

import numpy as np
import pytest

import efficientnet
from efficientnet import checkpoint_archive
from tests.efficientnet import helpers

NAME = "efficientnet-b0/stem/conv2d/kernel"
DATA_NAME = "model.ckpt.data-00000-of-00001"


@pytest.fixture(scope="module")
def tensors():
    """A small part of a network is enough to be described."""
    return {
        "global_step": np.int64(7),
        NAME: np.arange(216, dtype=np.float32).reshape(3, 3, 3, 8),
    }


@pytest.fixture
def folder(tensors, tmp_path):
    folder = tmp_path / "noisy_student_efficientnet-b0"
    folder.mkdir()
    helpers.write_tf1_checkpoint(folder / "model.ckpt", tensors)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    (folder / "model.ckpt.meta").write_bytes(b"not needed")
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory for temporary files; no folder must be left in it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield temporary
    # Files may be: code that TensorFlow generates when it first needs it.
    assert [path for path in temporary.iterdir() if path.is_dir()] == []


def pack(folder, path, *members):
    """Archives a folder, after further members; returns the path."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        archive.add(folder, folder.name)
    return path


def describe(path):
    return efficientnet.describe_tf1_checkpoint(path)


def assert_refused(path, error, message):
    with pytest.raises(error, match=message):
        describe(path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_an_archive_is_described_by_its_index(suffix, folder, temporary):
    path = pack(folder, folder.with_suffix(suffix))
    assert efficientnet.is_tf1_checkpoint(path) is True
    assert describe(path) == efficientnet.Tf1Checkpoint(
        str(path), "efficientnet-b0", None, False, None, 1
    )


def test_an_archive_loads_as_its_folder_does(tmp_path, temporary):
    model = helpers.build_tiny()
    tensors = helpers.golden_tensors(model, "tiny")
    folder = tmp_path / "folder"
    folder.mkdir()
    helpers.write_tf1_checkpoint(folder / "model.ckpt", tensors)
    path = pack(folder, tmp_path / "released.tar.gz")
    found = efficientnet.load_tf1_checkpoint(model, path)
    assert found == efficientnet.Tf1Checkpoint(
        str(path), "efficientnet-b0", 10, True, 12345, 140
    )
    for name, weight in zip(helpers.weight_names(model), model.weights):
        stored = tensors[f"efficientnet-b0/{name}{helpers.SHADOW}"]
        np.testing.assert_array_equal(weight, stored)
    with pytest.raises(ValueError, match="`use_ema`"):
        efficientnet.load_tf1_checkpoint(
            model, pack_without_shadows(tmp_path, tensors)
        )


def pack_without_shadows(tmp_path, tensors):
    folder = tmp_path / "raw"
    folder.mkdir()
    raw = {
        name: value
        for name, value in tensors.items()
        if not name.endswith(helpers.SHADOW)
    }
    helpers.write_tf1_checkpoint(folder / "model.ckpt", raw)
    return pack(folder, tmp_path / "raw.tar.gz")


def test_only_needed_files_are_unpacked(folder, temporary, monkeypatch):
    seen = []
    index_of = efficientnet.checkpoint_index.read_index

    def record(prefix, path):
        directory = pathlib.Path(prefix).parent
        seen.append(sorted(file.name for file in directory.iterdir()))
        return index_of(prefix, path)

    monkeypatch.setattr(efficientnet.checkpoint_index, "read_index", record)
    (folder / "._model.ckpt.index").write_bytes(b"of a file manager")
    path = pack(folder, folder.with_suffix(".tgz"))
    describe(path)
    with pytest.raises(ValueError, match="`use_ema`"):
        efficientnet.load_tf1_checkpoint(helpers.build_tiny(), path)
    few = ["checkpoint", "model.ckpt.index"]
    assert seen == [few, sorted([DATA_NAME, *few])]


def hostile(name, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member,reason",
    [
        (hostile("../model.ckpt.index"), "lies outside of it"),
        (hostile("folder/../../notes.txt"), "lies outside of it"),
        (hostile("/model.ckpt.index"), "lies outside of it"),
        (
            hostile("model.ckpt.index", tarfile.SYMTYPE, "/etc/passwd"),
            "is a link or a device",
        ),
        (hostile("hard", tarfile.LNKTYPE, "checkpoint"), "is a link"),
        (hostile("null", tarfile.CHRTYPE), "is a link or a device"),
        (hostile("pipe", tarfile.FIFOTYPE), "is a link or a device"),
        (hostile("\a.index"), "has no proper name"),
    ],
)
def test_unsafe_members_are_refused(member, reason, folder, temporary):
    path = pack(folder, folder.with_suffix(".tgz"), member)
    before = sorted(folder.parent.rglob("*"))
    assert_refused(
        path,
        ValueError,
        f"is refused: its member {re.escape(repr(member.name))} {reason}",
    )
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.95, 0.999])
def test_a_cut_archive_is_refused(kept, folder, temporary):
    path = pack(folder, folder.with_suffix(".tgz"))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert_refused(path, ValueError, "archive .*tgz' is truncated or damaged: ")


def test_no_changed_byte_of_an_archive_goes_unnoticed(folder, temporary):
    path = pack(folder, folder.with_suffix(".tgz"))
    data = path.read_bytes()
    gzip_header = 60
    for position in range(gzip_header, len(data), 37):
        changed = bytearray(data)
        changed[position] ^= 0xFF
        path.write_bytes(changed)
        assert_refused(path, ValueError, "archive|index of the checkpoint")


@pytest.mark.parametrize("content", [b"no archive at all", b"\x1f\x8b\x08"])
def test_what_is_no_archive_is_refused(content, tmp_path, temporary):
    path = tmp_path / "page.tar.gz"
    path.write_bytes(content)
    assert_refused(path, ValueError, "page.tar.gz' is truncated or damaged: ")


def test_an_archive_without_a_checkpoint_is_refused(tmp_path, temporary):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README").write_text("nothing here")
    path = pack(folder, tmp_path / "empty.tgz")
    assert_refused(
        path, ValueError, r"empty.tgz' holds no checkpoint: no \*.index file"
    )


def test_an_archive_of_two_folders_is_refused(folder, temporary):
    other = shutil.copytree(folder, folder / "other")
    path = pack(folder, folder.with_suffix(".tgz"))
    assert other.is_dir()
    assert_refused(path, ValueError, "holds several files '")


def test_a_missing_archive_or_checkpoint_is_not_found(tmp_path):
    for function in (
        efficientnet.describe_tf1_checkpoint,
        efficientnet.is_tf1_checkpoint,
    ):
        for name in ("b0.tar.gz", "model.ckpt"):
            path = tmp_path / name
            with pytest.raises(FileNotFoundError, match=f"No .*{path}'"):
                function(path)


def test_an_archive_is_found_as_it_is_and_all_else_by_its_prefix(folder):
    prefix = str(folder / "model.ckpt")
    archive = str(pack(folder, folder.with_suffix(".tgz")))
    assert checkpoint_archive.find(folder) == prefix
    assert checkpoint_archive.find(prefix) == prefix
    assert checkpoint_archive.find(archive) == archive
    with pytest.raises(FileNotFoundError, match="No archive '.*lost.tgz'"):
        checkpoint_archive.find(folder / "lost.tgz")


def test_an_empty_directory_holds_no_checkpoint(tmp_path):
    message = r"No checkpoint in .*: no \*.index file"
    assert_refused(tmp_path, FileNotFoundError, message)


def test_a_directory_of_one_checkpoint_needs_no_state_file(folder):
    (folder / "checkpoint").unlink()
    assert describe(folder) == efficientnet.Tf1Checkpoint(
        str(folder / "model.ckpt"), "efficientnet-b0", None, False, 7, 1
    )


def add_second(folder, tensors):
    return helpers.write_tf1_checkpoint(
        folder / "second.ckpt", {**tensors, "global_step": np.int64(8)}
    )


def test_the_state_file_chooses(folder, tensors):
    add_second(folder, tensors)
    assert describe(folder).global_step == 7
    (folder / "checkpoint").write_text('model_checkpoint_path: "second.ckpt"')
    assert describe(folder).global_step == 8


def test_several_checkpoints_need_a_state_file(folder, tensors):
    add_second(folder, tensors)
    (folder / "checkpoint").unlink()
    assert_refused(
        folder,
        ValueError,
        "holds several checkpoints and no `checkpoint` file: model.ckpt, "
        "second.ckpt",
    )


@pytest.mark.parametrize("start", ["/somewhere/else/", "../", "deeper/"])
def test_a_state_file_cannot_point_elsewhere(start, folder, tensors):
    second = add_second(folder, tensors)
    elsewhere = folder.parent / "model.ckpt"
    helpers.write_tf1_checkpoint(elsewhere, {"other/kernel": np.float32(1)})
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{start}model.ckpt"'
    )
    found = describe(folder)
    assert found.prefix == str(folder / "model.ckpt") != second
    assert found.scope == "efficientnet-b0"


def test_a_state_file_of_a_missing_checkpoint_is_an_error(folder):
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"')
    assert_refused(
        folder,
        FileNotFoundError,
        "names 'model.ckpt-9', which is not there. Found: model.ckpt",
    )


def test_a_damaged_state_file_is_an_error(folder):
    (folder / "checkpoint").write_bytes(b"\xff\xfe")
    assert_refused(folder, ValueError, "The `checkpoint` file in .* is damaged")
