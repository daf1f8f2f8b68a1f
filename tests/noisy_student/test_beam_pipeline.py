"""All stages on Beam, held to the commands of one machine."""

import dataclasses
import pathlib

import pytest
import tensorflow as tf
from absl import flags

from data_prep import (
    balancing,
    deduplicate,
    filter_unlabel,
    prob_storage,
    records,
)
from noisy_student import beam_pipeline, models, predict
from tests.noisy_student import fixtures, networks

pytestmark = pytest.mark.slow

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")


@pytest.fixture(name="teacher")
def _teacher(monkeypatch, tmp_path):
    """Returns (checkpoint, model) of a small teacher that any path loads."""
    tf.keras.utils.set_random_seed(0)
    network = networks.two_blocks()
    model = dataclasses.replace(
        fixtures.MODEL,
        num_classes=networks.NUM_CLASSES,
        image_size=networks.IMAGE_SIZE,
    )
    monkeypatch.setattr(models, "load", lambda *args, **kwargs: network)
    monkeypatch.setattr(models, "resolve", lambda *args, **kwargs: model)
    step = tf.train.Checkpoint(step=tf.Variable(1))
    return step.save(str(tmp_path / "teacher" / "model.ckpt")), model


def run(*arguments):
    flag_values = flags.FlagValues()
    beam_pipeline.define_flags(flag_values)
    flag_values(["beam_pipeline", *arguments])
    beam_pipeline.main(flag_values, [])


def content(folder):
    """Returns dict path -> bytes of all files below a folder."""
    folder = pathlib.Path(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_stages_give_the_files_of_one_machine(teacher, tmp_path):
    checkpoint, model = teacher
    corpus, evaluation = str(tmp_path / "corpus"), str(tmp_path / "evaluation")
    fixtures.write_unlabeled(corpus, "train", 12, num_shards=3)
    # Its images are the corpus' first ones.
    fixtures.write_unlabeled(evaluation, "validation", 2, num_shards=1)
    out = tmp_path / "beam"
    run(
        f"--input_dir={corpus}",
        f"--eval_dir={evaluation}",
        f"--output_dir={out}",
        f"--checkpoint={checkpoint}",
        "--nonear_duplicates",
        f"--num_label_classes={networks.NUM_CLASSES}",
        "--num_image=5",
        "--num_output_shards=2",
        "--eval_batch_size=2",
    )
    local = tmp_path / "local"
    images = str(out / "deduplicated" / "data")
    report = deduplicate.run(
        deduplicate.DeduplicateConfig(
            input_dir=corpus,
            eval_dir=evaluation,
            output_dir=str(local / "deduplicated"),
            near_duplicates=False,
        )
    )
    assert report["counters"] == {"dropped:same_bytes": 2, "kept": 10}
    predict.predict(
        predict.PredictConfig(
            model=model,
            checkpoint=checkpoint,
            input_dir=images,
            split="train",
            output_dir=str(local / "predictions"),
            batch_size=2,
        ),
        tf.distribute.get_strategy(),
    )
    filtered = filter_unlabel.run(
        filter_unlabel.FilterConfig(
            input_dir=images,
            prediction_dir=str(local / "predictions"),
            output_dir=str(local / "filtered"),
            num_label_classes=networks.NUM_CLASSES,
            num_output_shards=2,
            balance=balancing.BalanceConfig(num_image=5),
        )
    )
    assert filtered.num_input == 10
    assert filtered.num_records > 0
    assert content(out) == content(local)


def test_labelling_needs_a_checkpoint():
    with pytest.raises(ValueError, match="--checkpoint is needed"):
        run("--input_dir=in", "--output_dir=out", "--stages=predict")


def test_flags_are_refused_before_the_teacher_is_looked_for(monkeypatch):
    monkeypatch.setattr(models, "resolve", None)
    with pytest.raises(ValueError, match="--shard_id is for .*Received: 0"):
        run(
            "--input_dir=in",
            "--output_dir=out",
            "--stages=predict",
            "--checkpoint=/no/such/teacher",
            "--shard_id=0",
        )


def test_classes_other_than_the_teachers_are_refused_first(teacher, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="has 4 classes.*num_label_classes=9"):
        run(
            f"--input_dir={tmp_path}",
            f"--eval_dir={tmp_path}",
            f"--output_dir={out}",
            f"--checkpoint={teacher[0]}",
            "--num_label_classes=9",
        )
    assert not out.exists()


def test_labels_are_stored_as_the_flags_say(teacher, tmp_path, caplog):
    fixtures.write_unlabeled(str(tmp_path / "in"), "train", 2, num_shards=1)
    caplog.set_level("INFO", logger="absl")
    run(
        f"--input_dir={tmp_path / 'in'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--checkpoint={teacher[0]}",
        "--stages=predict,filter",
        f"--num_label_classes={networks.NUM_CLASSES}",
        "--prediction_storage=topk",
        "--num_stored_classes=2",
    )
    assert "Labels of 2 images, stored as topk, take about" in caplog.text
    for folder in ("predictions", "filtered/data"):
        (path,) = (tmp_path / "out" / folder).glob("train-*-of-*[0-9]")
        for serialized in records.read_records(path):
            example = tf.train.Example.FromString(serialized)
            fields = example.features.feature
            assert len(fields[prob_storage.TOP_PROBS].float_list.value) == 2
            assert prob_storage.PROBS not in fields
