"""The teacher on Apache Beam, held to the teacher in one process."""

import dataclasses
import pathlib

import pytest
import tensorflow as tf

from data_prep import shards
from noisy_student import models, predict
from tests.noisy_student import fixtures, networks

pytestmark = pytest.mark.slow

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

from noisy_student import beam_predict  # noqa: E402

MODEL = dataclasses.replace(
    fixtures.MODEL,
    num_classes=networks.NUM_CLASSES,
    image_size=networks.IMAGE_SIZE,
)


@pytest.fixture(name="loads", scope="module", autouse=True)
def _loads():
    """Replaces the teacher by a small one; returns a list of its loadings."""
    tf.keras.utils.set_random_seed(0)
    teacher = networks.two_blocks()
    loads = []

    def load(*args, **kwargs):
        loads.append((args, kwargs))
        return teacher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", load)
        yield loads


@pytest.fixture(name="settings", scope="module")
def _settings(loads, tmp_path_factory):
    """Returns a labelling run that is done in one process."""
    folder = tmp_path_factory.mktemp("labelling")
    teacher = tf.train.Checkpoint(step=tf.Variable(1))
    prefix = teacher.save(str(folder / "teacher" / "model.ckpt"))
    fixtures.write_unlabeled(folder / "images", "unlabeled", 9, num_shards=3)
    settings = predict.PredictConfig(
        model=MODEL,
        checkpoint=prefix,
        input_dir=str(folder / "images"),
        split="unlabeled",
        output_dir=str(folder / "local"),
        batch_size=2,
    )
    predict.predict(settings, tf.distribute.get_strategy())
    return settings


def content(folder):
    """Returns dict name -> bytes of the files in a folder."""
    folder = pathlib.Path(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_beam_writes_the_same_bytes_and_loads_the_teacher_once(
    settings, tmp_path, loads
):
    loads.clear()
    on_beam = dataclasses.replace(settings, output_dir=str(tmp_path))
    manifest = beam_predict.predict_on_beam(on_beam, [])
    assert manifest.total_records == 9
    assert content(tmp_path) == content(settings.output_dir)
    assert len(loads) == 1


def test_a_killed_run_labels_what_is_left(settings, tmp_path, loads):
    on_beam = dataclasses.replace(settings, output_dir=str(tmp_path))
    first = dataclasses.replace(on_beam, shard_ids=(1,))
    assert predict.predict(first, tf.distribute.get_strategy()) is None
    lost = shards.prediction_name("unlabeled", 0, 3)
    (tmp_path / f".{lost}.123.tmp").write_bytes(b"half a record")
    done = tmp_path / shards.prediction_name("unlabeled", 1, 3)
    before = done.stat().st_mtime_ns
    beam_predict.predict_on_beam(on_beam, [])
    assert done.stat().st_mtime_ns == before
    assert content(tmp_path) == content(settings.output_dir)
    loads.clear()
    assert beam_predict.predict_on_beam(on_beam, []).total_records == 9
    assert not loads  # A finished run needs no teacher.


def test_a_damaged_shard_is_named(settings, tmp_path):
    images = tmp_path / "images"
    fixtures.write_unlabeled(images, "unlabeled", 9, num_shards=3)
    damaged = images / shards.shard_name("unlabeled", 2, 3)
    damaged.write_bytes(damaged.read_bytes()[:-3])
    on_beam = dataclasses.replace(
        settings, input_dir=str(images), output_dir=str(tmp_path / "out")
    )
    with pytest.raises(ValueError, match=f"{damaged.name}.*truncated"):
        beam_predict.predict_on_beam(on_beam, [])
