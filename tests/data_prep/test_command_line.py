"""Tests of how commands start, explain themselves and fail."""

import subprocess
import sys
import textwrap

import pytest
import tensorflow
from absl import flags

from data_prep import command_line, digits

COMMAND = '''
"""Adds things up.

A second paragraph.
"""
import sys
from data_prep import command_line

def define_flags(flag_values):
    group = command_line.FlagGroup("Numbers", flag_values)
    group.integer("number", 3, "What to add.", lower_bound=0)
    group.enum("fail", None, ["value", "file", "bug", "stop"], "How to fail.")

def main(flag_values):
    if flag_values.fail == "value":
        raise ValueError("`number` is\\n  wrong. Received: 3.")
    if flag_values.fail == "file":
        open("/no/such/file")
    if flag_values.fail == "bug":
        raise KeyError("a bug")
    if flag_values.fail == "stop":
        raise command_line.Stopped("half of it is done.", 143)
    from absl import logging
    logging.info("the sum is %d", flag_values.number + 1)
    logging.debug("a detail")

if __name__ == "__main__":
    command_line.run(main, define_flags)
'''


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "command.py"
    path.write_text(COMMAND.strip())

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": ":".join(sys.path)},
        )

    return run


def test_a_command_runs_and_logs_plain_lines(run):
    result = run("--number=4")
    assert (result.returncode, result.stderr) == (0, "the sum is 5\n")


def test_verbosity_adds_and_removes_lines(run):
    assert "a detail\n" in run("--verbosity=1").stderr
    assert run("--verbosity=-1").stderr == ""


@pytest.mark.parametrize("word", ["--help", "-h", "--helpfull"])
def test_help_tells_purpose_and_flags_by_group(run, word):
    result = run(word)
    assert result.returncode == 0
    assert result.stdout.startswith("Adds things up.\n\nA second paragraph.\n")
    assert "Numbers:\n  --fail\n" in result.stdout
    assert "default: 3)" in result.stdout
    # absl's own flags would bury the command's.
    assert "--pdb" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nubmer=4"], "Unknown command line flag 'nubmer'"),
        (["--number=-1"], "flag --number=-1"),
        (["--number=x"], "flag --number=x"),
        (["--fail=other"], "flag --fail=other"),
        (["number=4"], "Unexpected argument 'number=4'"),
        (["--fail=value"], "`number` is wrong. Received: 3."),
        (["--fail=file"], "No such file or directory: '/no/such/file'"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(run, arguments, message):
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_the_traceback_is_there_on_request(run):
    result = run("--fail=value", "--verbosity=1")
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: `number` is wrong. Received: 3.\n")


def test_a_command_that_was_stopped_says_so_in_a_line_and_its_status(run):
    result = run("--fail=stop")
    assert result.returncode == 143
    assert result.stderr == "stopped: half of it is done.\n"


def test_a_bug_keeps_its_traceback(run):
    result = run("--fail=bug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "KeyError: 'a bug'" in result.stderr


POSITIONAL = """
import sys
from data_prep import command_line

def define_flags(flag_values):
    command_line.FlagGroup("Numbers", flag_values).integer("number", 3, "One.")

def main(flag_values, arguments):
    sys.stdout.write(repr((flag_values.number, arguments)))

if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (3, [])),
        (["a", "--number=4", "b c"], (4, ["a", "b c"])),
        (["--number=4", "--", "--number=5"], (4, ["--number=5"])),
    ],
)
def test_a_command_that_takes_arguments_gets_them(
    tmp_path, arguments, expected
):
    path = tmp_path / "command.py"
    path.write_text(POSITIONAL)
    result = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout == repr(expected)


def test_errors_of_tensorflow_are_one_line(capsys):
    def main(flag_values):
        raise tensorflow.errors.DataLossError(None, None, "corrupted\nrecord")

    # In this process: another one would have to import TensorFlow again.
    with pytest.raises(SystemExit) as stopped:
        command_line._call(main)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: corrupted record\n"


def test_a_group_declares_only_where_it_is_told():
    flag_values = flags.FlagValues()
    group = command_line.FlagGroup("Things", flag_values)
    group.bool("flag_of_this_test", False, "A flag.")
    group.enum("choice_of_this_test", "a", ["a", "b"], "A choice.")
    assert set(flag_values) == {"flag_of_this_test", "choice_of_this_test"}
    assert "flag_of_this_test" not in flags.FLAGS


def test_help_wraps_and_shows_defaults_and_choices():
    flag_values = flags.FlagValues()
    group = command_line.FlagGroup("Things", flag_values)
    group.string("name", None, "A long " + "description " * 20 + "ends.")
    group.enum("choice", "a", ["a", "b"], "A choice.")
    text = command_line.format_help("What it does.", flag_values)
    assert max(map(len, text.splitlines())) <= 80
    assert "default: none" in text
    assert "<a|b>" in text
    assert "default: 'a'" in text


MODULES_WITHOUT_TENSORFLOW = (
    "balancing",
    "cifar10",
    "class_names",
    "command_line",
    "digits",
    "files",
    "filter_report",
    "filter_unlabel",
    "hashing",
    "image_encoding",
    "image_folder",
    "imagenet",
    "jft",
    "prediction_inputs",
    "progress",
    "shard_writer",
    "shards",
    "source_writer",
    "svhn",
    "tar_index",
    "tfds_dataset",
    "yfcc100m",
    "yfcc100m_metadata",
)


def test_commands_start_without_tensorflow():
    imports = "".join(
        f"import data_prep.{name}\n" for name in MODULES_WITHOUT_TENSORFLOW
    )
    code = f"import sys\n{imports}print('tensorflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout == "False\n"


def test_a_finished_command_needs_no_tensorflow(tmp_path):
    pytest.importorskip("sklearn")
    digits.write(digits.DigitsConfig(str(tmp_path)))
    code = textwrap.dedent(f"""
        import sys
        from data_prep import digits
        digits.write(digits.DigitsConfig({str(tmp_path)!r}))
        print("tensorflow" in sys.modules)
    """)
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout == "False\n"
