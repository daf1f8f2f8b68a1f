"""Tests that the page on data formats says what the code does."""

import importlib
import pathlib
import re
import shlex

import pytest
from absl import flags

from data_prep import records

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "data_formats.md"
TEXT = PAGE.read_text()


def _commands():
    """Returns the arguments of the page's commands, by their modules."""
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = block.replace("\\\n", " ").strip().splitlines()
    return {(words := shlex.split(line))[2]: words[3:] for line in lines}


@pytest.mark.parametrize(
    ("module", "arguments"), _commands().items(), ids=_commands()
)
def test_every_command_of_the_page_parses(module, arguments):
    flag_values = flags.FlagValues()
    importlib.import_module(module).define_flags(flag_values)
    assert flag_values(["program", *arguments]) == ["program"]


def test_every_source_has_a_command():
    sources = TEXT[TEXT.index("## Sources") :]
    rows = re.findall(r"^\| `(\w+)` \|", sources, re.MULTILINE)
    assert {f"data_prep.{name}" for name in rows} == set(_commands())


def test_every_field_of_a_record_is_in_the_table():
    for field in (
        records.IMAGE,
        records.KEY,
        records.LABEL,
        records.PSEUDO_LABEL,
        records.CONFIDENCE,
        records.PROBS,
        records.PREDICTED_CLASS,
    ):
        assert f"| `{field}` |" in TEXT


def test_every_reason_of_a_dropped_input_is_explained():
    folder = PAGE.parents[1] / "data_prep"
    explained = set(re.findall(r"`(?:dropped:)?(\w+)`", TEXT))
    for name in (
        "cifar10",
        "image_encoding",
        "image_folder",
        "imagenet",
        "jft",
        "svhn",
        "tar_index",
        "tfds_dataset",
        "yfcc100m",
    ):
        source = (folder / f"{name}.py").read_text()
        assert (
            set(re.findall(r'"dropped:(\w+)"', source))
            - {
                # `inspect` gives it, which makes no shards.
                "folder",
            }
            <= explained
        )
