"""The command line of data preparation on Beam."""

import importlib.util
import subprocess
import sys

import pytest
from absl import flags

from data_prep import beam_pipeline


def parse(*arguments):
    flag_values = flags.FlagValues()
    beam_pipeline.define_flags(flag_values)
    flag_values(["beam_pipeline", *arguments])
    return flag_values


def run(*arguments, options=()):
    flag_values = parse("--input_dir=in", "--output_dir=out", *arguments)
    beam_pipeline.main(flag_values, list(options))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input_dir="], "--input_dir is needed"),
        (["--stages="], "--stages is needed"),
        (["--stages=filter,predict"], "in this order. Received: filter,pre"),
        (["--stages=label"], "must be some of dedup.*Received: label"),
        (["--stages=deduplicate"], "--eval_dir is needed"),
        (["--stages=filter", "--num_image=5", "--max_prob=0"], "`max_prob`"),
        (["--only_get_stats=1"], "--only_get_stats is for .*Received: 1"),
        (["--num_shards=4"], "--num_shards is for .*Received: 4"),
        (["--shard_id=0"], "--shard_id is for .*Received: 0"),
    ],
)
def test_wrong_flags_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)


def test_arguments_that_are_no_flags_are_refused():
    with pytest.raises(ValueError, match="Unexpected argument 'folder'"):
        run("--stages=filter", options=["folder"])


@pytest.fixture
def installed(monkeypatch):
    """Lets Beam seem to be installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.usefixtures("installed")
def test_labelling_without_a_teacher_says_who_has_one():
    with pytest.raises(ValueError, match="-m noisy_student.beam_pipeline"):
        run("--stages=predict")


def test_without_beam_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install -e '.\\[beam\\]'"):
        run("--stages=filter")


def test_each_stage_reads_what_the_one_before_wrote():
    config = beam_pipeline.PipelineConfig(beam_pipeline.STAGES, "in", "out")
    assert config.image_dir == "out/deduplicated/data"
    assert config.prediction_dir == "out/predictions"
    alone = beam_pipeline.PipelineConfig(("filter",), "in", "out")
    assert alone.image_dir == "in"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "--eval_dir"),
        (["--stages=filter", "--input_dir=a", "--", "b"], 1, "is needed"),
        (["--num_image=0"], 1, "num_image"),
    ],
)
def test_help_and_wrong_flags_wait_for_neither_beam_nor_tensorflow(
    arguments, status, message
):
    code = (
        "import sys\n"
        "sys.modules['apache_beam'] = sys.modules['tensorflow'] = None\n"
        "from data_prep import beam_pipeline, command_line\n"
        "command_line.run(beam_pipeline.main, beam_pipeline.define_flags, "
        "positional=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True
    )
    assert result.returncode == status, result.stderr
    assert message in (result.stderr if status else result.stdout)
