import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import logging

import efficientnet
from data_prep import shards
from noisy_student import labeled_images, models, run_dir
from tests.noisy_student import fixtures
from tests.noisy_student.fixtures import run_main

pytestmark = pytest.mark.slow

TINY = [
    "--task_name=custom",
    "--num_label_classes=3",
    "--input_image_size=16",
    "--small_image_model",
    "--width_coefficient=0.1",
    "--depth_coefficient=0.1",
    "--train_batch_size=4",
    "--eval_batch_size=4",
    "--train_steps=4",
    "--iterations_per_loop=2",
    "--save_checkpoints_steps=2",
    "--steps_per_eval=4",
    "--warmup_epochs=0",
]


# What a checkpoint without a run's configuration does not tell.
DESCRIBED = [
    "--task_name=custom",
    "--input_image_size=16",
    "--small_image_model",
    "--width_coefficient=0.1",
    "--depth_coefficient=0.1",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns (data directory, run directory) of a run of `train_and_eval`."""
    data_dir = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(data_dir, "train", 10)
    fixtures.write_labeled(data_dir, "validation", 7)
    fixtures.write_unlabeled(data_dir, "unlabeled", 5)
    model_dir = tmp_path_factory.mktemp("runs") / "run"
    run_main(*TINY, f"--label_data_dir={data_dir}", f"--model_dir={model_dir}")
    return data_dir, model_dir


def test_a_run_leaves_config_checkpoints_metrics_events_and_report(trained):
    data_dir, model_dir = trained
    config = json.loads((model_dir / "config.json").read_text())
    assert config["num_train_images"] == 10
    assert config["data"]["label_data_dir"] == str(data_dir)
    assert (model_dir / "model.ckpt-4.index").exists()
    assert list(model_dir.glob("events.out.tfevents.*"))
    metrics = run_dir.read_metrics(str(model_dir))
    assert [line["step"] for line in metrics] == [2, 4]
    assert "eval/top_1" in metrics[-1]
    assert "eval/top_1" not in metrics[0]
    report = run_dir.read_report(str(model_dir))
    assert report["eval/top_1"] == metrics[-1]["eval/top_1"]
    assert report["made_with"]["tensorflow"]


def test_a_finished_run_is_not_trained_again(trained):
    data_dir, model_dir = trained
    before = (model_dir / "metrics.jsonl").read_text()
    run_main(*TINY, f"--label_data_dir={data_dir}", f"--model_dir={model_dir}")
    assert (model_dir / "metrics.jsonl").read_text() == before
    assert "eval/top_1" in run_dir.read_report(str(model_dir))


@pytest.mark.long
def test_what_train_finished_train_and_eval_evaluates(trained, tmp_path):
    data_dir, model_dir = trained
    paths = [f"--label_data_dir={data_dir}", f"--model_dir={tmp_path}"]
    run_main(*TINY, *paths, "--mode=train")
    assert "eval/top_1" not in run_dir.read_report(str(tmp_path))
    run_main(*TINY, *paths, "--mode=train_and_eval")
    report = run_dir.read_report(str(tmp_path))
    expected = run_dir.read_report(str(model_dir))
    assert report["eval/top_1"] == expected["eval/top_1"]
    assert report["train/loss"] == expected["train/loss"]


def test_eval_reports_what_training_measured(trained, monkeypatch):
    data_dir, model_dir = trained
    expected = run_dir.read_metrics(str(model_dir))[-1]["eval/top_1"]
    lines = []
    monkeypatch.setattr(
        logging, "info", lambda text, *values: lines.append(text % values)
    )
    # The network comes from the run, not from the flags.
    run_main(
        "--mode=eval",
        "--task_name=custom",
        f"--label_data_dir={data_dir}",
        f"--model_dir={model_dir}",
    )
    assert f"validation/top_1: {expected}" in lines
    assert "validation/num_images: 7" in lines


def test_eval_follows_a_run_whose_archive_is_its_best(trained):
    data_dir, model_dir = trained
    paths = [f"--label_data_dir={data_dir}", f"--model_dir={model_dir}"]
    run_main("--mode=eval", "--follow", "--task_name=custom", *paths)
    lines = run_dir.read_metrics(str(model_dir), "eval_metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4]
    expected = run_dir.read_metrics(str(model_dir))[-1]
    assert lines[-1]["eval/top_1"] == expected["eval/top_1"]
    assert lines[-1]["eval/loss"] == pytest.approx(expected["eval/loss"])
    best = json.loads((model_dir / "archive" / "best.json").read_text())
    assert best["step"] == 4
    loaded = models.load(fixtures.MODEL, str(model_dir / "archive"))
    run = models.load(fixtures.MODEL, str(model_dir))
    for ours, theirs in zip(loaded.weights, run.weights):
        np.testing.assert_array_equal(ours, theirs)
    config = run_dir.trained_model_config(str(model_dir / "archive"))
    assert config == run_dir.trained_model_config(str(model_dir))


def test_follow_needs_a_run_directory():
    with pytest.raises(ValueError, match="--model_dir is needed"):
        run_main("--mode=eval", "--follow", "--label_data_dir=data")


def write_images(folder):
    """Writes class folders of the images that training saw."""
    for label in range(fixtures.NUM_CLASSES):
        (folder / f"class_{label}").mkdir(parents=True)
        for number in (label, label + 3):
            path = folder / f"class_{label}" / f"{number}.png"
            path.write_bytes(fixtures.image_bytes(label, number))


def test_eval_takes_a_folder_of_images_and_leaves_a_report(
    trained, tmp_path, monkeypatch
):
    _, model_dir = trained
    write_images(tmp_path / "images")
    opened = []
    open_source = labeled_images.open_source

    def count(value, **options):
        opened.append(value)
        return open_source(value, **options)

    monkeypatch.setattr(labeled_images, "open_source", count)
    run_main(
        "--mode=eval",
        "--task_name=custom",
        f"--label_data_dir={tmp_path}/images",
        f"--checkpoint={model_dir}",
        f"--output_dir={tmp_path}/report",
    )
    assert opened == [f"{tmp_path}/images"]
    report = json.loads((tmp_path / "report" / "eval.json").read_text())
    assert report["validation/num_images"] == 6
    assert 0 <= report["validation/top_1"] <= 1
    assert report["checkpoint"] == str(model_dir)
    assert report["model"]["width_coefficient"] == 0.1


def test_images_that_cannot_be_evaluated_do_not_wait_for_the_network(
    trained, tmp_path, monkeypatch
):
    _, model_dir = trained
    write_images(tmp_path / "images")
    (tmp_path / "images" / "class_1" / "1.png").write_bytes(b"")
    monkeypatch.setattr(models, "load", None)
    with pytest.raises(ValueError, match=r"1 of 6 .*1\.png \(an empty file\)"):
        run_main(
            "--mode=eval",
            "--task_name=custom",
            f"--label_data_dir={tmp_path}/images",
            f"--checkpoint={model_dir}",
        )


def test_eval_with_another_network_than_the_checkpoints_is_refused(trained):
    data_dir, model_dir = trained
    with pytest.raises(ValueError, match="--model_name asks for .*-b4"):
        run_main(
            "--mode=eval",
            "--model_name=efficientnet-b4",
            f"--label_data_dir={data_dir}",
            f"--checkpoint={model_dir}",
        )


def test_a_released_checkpoint_is_evaluated_and_fine_tuned(trained, tmp_path):
    data_dir, _ = trained
    model = models.build(dataclasses.replace(fixtures.MODEL, num_classes=2))
    prefix = str(tmp_path / "model.ckpt")
    averages = [1.25 * weight for weight in model.get_weights()]
    efficientnet.save_tf1_checkpoint(model, prefix, averages)
    # It has two classes, the records three.
    with pytest.raises(ValueError, match="num_label_classes=2 does not fit"):
        run_main(
            "--mode=eval",
            *DESCRIBED,
            f"--checkpoint={prefix}",
            f"--label_data_dir={data_dir}",
        )
    run_main(
        *TINY,
        "--mode=train",
        "--init_model",
        f"--init_model_path={prefix}",
        "--checkpoint_head=fresh",
        "--trainable_blocks=1",
        f"--label_data_dir={data_dir}",
        f"--model_dir={tmp_path}/run",
    )
    tuned = models.load(fixtures.MODEL, str(tmp_path / "run"))
    assert tuned.output_shape == (None, 3)
    for name, is_frozen in (
        ("stem", True),
        ("blocks_5", True),
        ("head", False),
    ):
        old, new = (
            network.get_layer(name).conv.kernel
            if name != "blocks_5"
            else network.get_layer(name).project_conv.kernel
            for network in (model, tuned)
        )
        assert np.array_equal(1.25 * old, new) == is_frozen, name


@pytest.mark.long
def test_the_tail_of_a_schedule_tunes_all_but_the_first_layers(
    trained, tmp_path
):
    data_dir, model_dir = trained
    run_main(
        *TINY,
        "--mode=train",
        "--init_model",
        f"--init_model_path={model_dir}",
        "--fix_layer_num=6",
        "--train_steps=40",
        "--train_last_step_num=2",
        f"--label_data_dir={data_dir}",
        f"--model_dir={tmp_path}",
    )
    (metrics,) = run_dir.read_metrics(str(tmp_path))
    assert metrics["step"] == 2
    # An epoch has 2.5 steps and a stair 2.4 epochs, so step 39 is on the sixth.
    rate = 0.016 * 4 / 256 * 0.97**6
    assert metrics["train/learning_rate"] == pytest.approx(rate)
    before = models.load(fixtures.MODEL, str(model_dir))
    tuned = models.load(fixtures.MODEL, str(tmp_path), use_ema=False)
    changed = {
        layer.name
        for layer in before.layers
        for old, new in zip(
            layer.get_weights(), tuned.get_layer(layer.name).get_weights()
        )
        if not np.array_equal(old, new)
    }
    assert changed == {"blocks_6", "head", "head/dense"}


@pytest.mark.long
def test_a_released_checkpoint_runs_on_several_devices(trained, tmp_path):
    data_dir, _ = trained
    prefix = str(tmp_path / "model.ckpt")
    efficientnet.save_tf1_checkpoint(models.build(fixtures.MODEL), prefix)
    arguments = [
        "--mode=eval",
        *DESCRIBED,
        "--eval_batch_size=3",
        f"--checkpoint={prefix}",
        f"--label_data_dir={data_dir}",
    ]
    run_main(*arguments, f"--output_dir={tmp_path}/1")
    # A process of its own: these tests have configured the devices already.
    result = subprocess.run(
        [
            *(sys.executable, "-m", "noisy_student.main", *arguments),
            "--deterministic",
            "--num_virtual_devices=2",
            f"--output_dir={tmp_path}/2",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    reports = [
        json.loads((tmp_path / folder / "eval.json").read_text())
        for folder in ("1", "2")
    ]
    figures = [
        {name: value for name, value in report.items() if "/" in name}
        for report in reports
    ]
    assert figures[0]["validation/num_images"] == 7
    assert figures[1] == pytest.approx(figures[0], rel=1e-5)


@pytest.mark.long
def test_raw_weights_are_trained_from_on_request(trained, tmp_path):
    data_dir, _ = trained
    model = models.build(fixtures.MODEL)
    prefix = str(tmp_path / "model.ckpt")
    shadows = [0 * weight for weight in model.get_weights()]
    efficientnet.save_tf1_checkpoint(model, prefix, shadows)
    run_main(
        *TINY,
        "--mode=train",
        "--train_steps=1",
        "--base_learning_rate=1e-9",
        "--init_model",
        f"--init_model_path={prefix}",
        "--nouse_ema",
        f"--label_data_dir={data_dir}",
        f"--model_dir={tmp_path}/run",
    )
    tuned = models.load(fixtures.MODEL, str(tmp_path / "run"))
    np.testing.assert_allclose(
        tuned.get_layer("stem").conv.kernel,
        model.get_layer("stem").conv.kernel,
        atol=1e-5,
    )


def test_class_folders_must_be_those_the_run_was_trained_on(trained, tmp_path):
    data_dir, model_dir = trained
    names = pathlib.Path(data_dir, "classes.json")
    names.write_text(json.dumps([f"class_{i}" for i in (2, 1, 0)]))
    try:
        write_images(tmp_path / "known")
        write_images(tmp_path / "others")
        (tmp_path / "others" / "class_0").rename(tmp_path / "others" / "dog")
        arguments = [
            "--mode=eval",
            "--task_name=custom",
            f"--checkpoint={model_dir}",
        ]
        run_main(*arguments, f"--label_data_dir={tmp_path}/known")
        with pytest.raises(ValueError, match="1 of 3 class folders.*dog"):
            run_main(*arguments, f"--label_data_dir={tmp_path}/others")
    finally:
        names.unlink()


def test_export_writes_what_was_asked_for(trained, tmp_path):
    data_dir, model_dir = trained
    run_main(
        "--mode=export",
        "--task_name=custom",
        f"--label_data_dir={data_dir}",
        f"--checkpoint={model_dir}",
        f"--output_dir={tmp_path}",
        "--export_formats=h5,keras",
        "--export_samples=3",
    )
    report = json.loads((tmp_path / "export.json").read_text())
    assert sorted(report["formats"]) == ["h5", "keras"]
    assert report["num_samples"] == 3
    assert (tmp_path / "model.h5").exists()


def test_an_export_with_a_damaged_image_names_it(trained, tmp_path):
    _, model_dir = trained
    write_images(tmp_path / "images")
    (tmp_path / "images" / "class_1" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1\.png \(an empty file\)"):
        run_main(
            "--mode=export",
            "--task_name=custom",
            f"--label_data_dir={tmp_path}/images",
            f"--checkpoint={model_dir}",
            f"--output_dir={tmp_path}/exported",
        )


def test_info_describes_the_network_of_a_checkpoint(trained, capsys):
    _, model_dir = trained
    run_main("--mode=info", f"--checkpoint={model_dir}", "--train_batch_size=8")
    text = capsys.readouterr().out
    params = models.build(fixtures.MODEL).count_params()
    assert f"Parameters: {params:,}" in text
    assert "16x16, 3 classes" in text
    assert "Training step of 8 images" in text


def test_info_describes_a_model_without_building_it(capsys):
    run_main("--mode=info", "--model_name=efficientnet-l2")
    text = capsys.readouterr().out
    assert "480,309,308" in text
    assert "88" in text


def test_predict_labels_every_unlabeled_image(trained, tmp_path):
    data_dir, model_dir = trained
    run_main(
        "--mode=predict",
        *TINY,
        f"--checkpoint={model_dir}/model.ckpt-4",
        f"--unlabel_data_dir={data_dir}",
        "--file_prefix=unlabeled",
        f"--output_dir={tmp_path}",
    )
    manifest = shards.read_manifest(str(tmp_path), "unlabeled-info")
    assert manifest.total_records == 5


def test_predict_takes_the_originals_flags(trained, tmp_path):
    data_dir, model_dir = trained
    for shard in (1, 0):
        run_main(
            "--mode=predict",
            *TINY,
            f"--predict_ckpt_path={model_dir}/model.ckpt-4",
            "--worker_id=0",
            "--num_shards=2",
            f"--shard_id={shard}",
            "--file_prefix=unlabeled",
            f"--label_data_dir={data_dir}",
            "--data_type=tfrecord",
            f"--info_dir={tmp_path}/info",
            f"--output_dir={tmp_path}/labels",
        )
        finished = shards.read_manifest(f"{tmp_path}/labels", "unlabeled-info")
        assert (finished is None) == (shard == 1)
    assert finished.total_records == 5
    assert len(list((tmp_path / "info").iterdir())) == 2


def test_other_settings_in_the_same_directory_are_refused(trained):
    data_dir, model_dir = trained
    with pytest.raises(ValueError, match="`train_steps`: 4 before, 6 now"):
        run_main(
            *TINY,
            "--train_steps=6",
            f"--label_data_dir={data_dir}",
            f"--model_dir={model_dir}",
        )


WRONG = {
    "--mode=fly": ["--mode=fly", "train_and_eval"],
    "--train_steps=0": ["--train_steps=0"],
    "--label_data_dir=/no/such": ["--label_data_dir=/no/such", "directory"],
    "--label_data_dir=": ["--label_data_dir is needed"],
    "--model_dir=": ["--model_dir is needed"],
    "--preset=digits/dean": ["--preset", "'digits/dean'"],
    "--unlabel_ratio=1 --unlabel_data_dir=/no/such": [
        "--unlabel_data_dir=/no/such"
    ],
    "--unlabel_ratio=1 --unlabel_data_dir={data} "
    "--teacher_model_name=efficientnet-b0 --teacher_model_path=/no/teacher": [
        "--teacher_model_path=/no/teacher",
        "no checkpoint",
    ],
    "--mode=eval --checkpoint=/no/ckpt": ["--checkpoint=/no/ckpt"],
    "--mode=predict --checkpoint=/no/ckpt": ["--checkpoint=/no/ckpt"],
    "--mode=eval --checkpoint=/no/w.tar.gz": ["--checkpoint=/no/w.tar.gz"],
    "--init_model --init_model_path=/no/w": ["--init_model_path=/no/w"],
    "--trainable_blocks=0": ["--trainable_blocks needs --init_model"],
    "--train_ratio=inf": ["--train_ratio=inf", "finite"],
    "--num_label_clases=3": ["num_label_clases"],
    "--model_dir=/etc/hosts": ["--model_dir=/etc/hosts", "not a folder"],
    "--train_batch_size=5 --num_virtual_devices=2": [
        "--train_batch_size",
        "Received: 5",
    ],
    "--num_label_classes=2 --num_virtual_devices=2": ["label 3"],
    "stray": ["'stray'"],
}
# Found by TensorFlow, whose import is most of the time of a process.
WRONG_LATE = {
    "--final_base_lr=0.001 --warmup_epochs=50": ["final_base_lr"],
    "--init_model --init_model_path={run} --trainable_blocks=8": [
        "--trainable_blocks=8: efficientnet-b0 has 7 blocks"
    ],
    "--mode=train_and_eval --eval_split=dev": [
        "--label_data_dir={data}",
        "dev-",
    ],
    "--num_label_classes=2": ["--num_label_classes=2", "label 3"],
    "--unlabel_ratio=1 --unlabel_data_dir={data} --file_prefix=extra": [
        "--unlabel_data_dir={data}",
        "extra-",
    ],
    "--unlabel_ratio=1 --unlabel_data_dir={data} --file_prefix=unlabeled": [
        "--unlabel_data_dir={data}",
        "record 0",
    ],
}


TENSORFLOW_CHATTER = re.compile(
    r"WARNING: All log messages before absl|[IWE]\d{4} |"
    r"Using MirroredStrategy|\d replicas? on "
)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_command_ends_in_one_line_and_leaves_nothing(
    trained, tmp_path, wrong
):
    data_dir, model_dir = trained
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "noisy_student.main",
            *TINY,
            f"--label_data_dir={data_dir}",
            f"--model_dir={tmp_path}/run",
            *wrong.format(data=data_dir, run=model_dir).split(" "),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    *before, line = result.stderr.splitlines()
    # TensorFlow announces itself and, as we do, the devices it found.
    assert all(TENSORFLOW_CHATTER.match(text) for text in before)
    assert line.startswith("error: ")
    for part in WRONG[wrong]:
        assert part in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", WRONG_LATE)
def test_what_does_not_fit_is_told_and_leaves_nothing(trained, tmp_path, wrong):
    data_dir, model_dir = trained
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        run_main(
            *TINY,
            f"--label_data_dir={data_dir}",
            f"--model_dir={tmp_path}/run",
            *wrong.format(data=data_dir, run=model_dir).split(" "),
        )
    for part in WRONG_LATE[wrong]:
        assert part.format(data=data_dir) in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_help_groups_the_flags_and_needs_no_tensorflow():
    code = (
        "import runpy, sys; sys.argv = ['main', '--help']\n"
        "try: runpy.run_module('noisy_student.main', run_name='__main__')\n"
        "finally: assert 'tensorflow' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for heading in ("What to do:", "Data:", "Model:", "Noise:", "Hardware:"):
        assert f"\n{heading}\n" in result.stdout
    assert "  --teacher_softmax_temp\n" in result.stdout
