import pathlib

from noisy_student import flag_reference

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_flag_reference_is_that_of_the_declarations():
    written = (DOCS / "flags.md").read_text()
    assert written == flag_reference.format_reference(), (
        "Run: python -m noisy_student.flag_reference > docs/flags.md"
    )


def test_a_row_has_the_default_the_sentence_and_the_choices():
    text = flag_reference.format_reference()
    assert "\n| `--train_steps` | `109474` | Steps of the run" in text
    assert "\n| `--shard_id` | `0` | Shards to label" in text
    assert "| `--output_dir` | empty |" in text
    assert (
        "| `--loss_normalization` | `labeled` | Average the loss over labeled "
        "images (the original code) or over all images (the paper's text). "
        "One of `labeled`, `all`. |"
    ) in text
