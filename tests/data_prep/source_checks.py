"""What every source of shards has to keep, in a form its tests can call."""

import dataclasses
import io
import os
import tarfile

import pytest
from absl import flags

from data_prep import shard_writer, shards, source_writer
from tests.data_prep import corpus


def content(folder):
    """Returns dict path below a folder -> bytes."""
    return {
        os.path.relpath(os.path.join(root, name), folder): _read(root, name)
        for root, _, names in os.walk(folder)
        for name in names
    }


def _read(root, name):
    with open(os.path.join(root, name), "rb") as file:
        return file.read()


def rows(folder, split):
    """Returns dict key -> fields of the record, of all shards of a split."""
    found = {}
    for row in corpus.read_features(shards.list_shards(folder, split)):
        key = row["image/filename"][0].decode()
        assert key not in found
        found[key] = row
    return found


def tar_bytes(members):
    """Returns an uncompressed tar file of (name, bytes) pairs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def check_restart(write, config, tmp_path, monkeypatch, fail_at):
    """Checks that a run stopped at a record goes on to the same bytes.

    Args:
        write: `write` of the source.
        config: Its config; the output folder is replaced.
        tmp_path: Empty folder.
        monkeypatch: The fixture.
        fail_at: Number of the record, over all splits, that cannot be written.
    """
    whole = dataclasses.replace(config, output_dir=str(tmp_path / "whole"))
    killed = dataclasses.replace(config, output_dir=str(tmp_path / "killed"))
    write(whole)
    expected = content(tmp_path / "whole")
    write_record = shard_writer.OpenShard.write
    written = []

    def failing(shard, serialized, label=None):
        written.append(serialized)
        if len(written) == fail_at:
            raise KeyboardInterrupt
        write_record(shard, serialized, label)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer.OpenShard, "write", failing)
        with pytest.raises(KeyboardInterrupt):
            write(killed)
        done = _shard_times(tmp_path / "killed")
        assert 0 < len(done) < len(_shard_times(tmp_path / "whole"))
        written.clear()
        patch.setattr(
            shard_writer.OpenShard,
            "write",
            lambda shard, serialized, label=None: (
                written.append(serialized),
                write_record(shard, serialized, label),
            ),
        )
        write(killed)
    assert content(tmp_path / "killed") == expected
    times = _shard_times(tmp_path / "killed")
    assert {path: times[path] for path in done} == done
    total = len(corpus.read_features(times))
    finished = len(corpus.read_features(done))
    assert len(written) == total - finished


def _shard_times(folder):
    return {
        os.path.join(root, name): os.stat(os.path.join(root, name)).st_mtime_ns
        for root, _, names in os.walk(folder)
        for name in names
        if shards.parse_name(name)
    }


def check_flags(module, config_class, non_default):
    """Checks that each flag reaches the config and defaults are its own.

    Args:
        module: The source.
        config_class: Its config.
        non_default: dict of all flags to values other than the default.
    """
    fields = dataclasses.fields(config_class)
    assert {field.name for field in fields} == set(non_default)
    needed = {
        f.name: f"some_{f.name}"
        for f in fields
        if f.default is dataclasses.MISSING
    }
    # Configs that need one of several inputs.
    optional = {"train": "some_train"} if "train" in non_default else {}
    default = _config(module, config_class, {**needed, **optional})
    assert default == config_class(**needed, **optional)
    for name, value in non_default.items():
        given = {**needed, **optional, **value}
        assert name in value
        changed = _config(module, config_class, given)
        assert getattr(changed, name) != getattr(default, name), name


def _config(module, config_class, given):
    flag_values = flags.FlagValues()
    module.define_flags(flag_values)
    flag_values(["program", *(f"--{k}={v}" for k, v in given.items())])
    return source_writer.config_from_flags(config_class, flag_values)
