"""Tests of the published results."""

import pytest

import efficientnet
from noisy_student import config, info, measured, published

TABLES = {
    "2": published.TABLE_2,
    "3": published.TABLE_3,
    "4": published.TABLE_4,
    "5": published.TABLE_5,
    "adversarial": published.ADVERSARIAL,
    "figure 2": published.FIGURE_2,
    "reevaluations": published.REEVALUATIONS,
}
ROWS = [row for table in TABLES.values() for row in table]


def percents(row):
    return {name: value.percent for name, value in row.figures.items()}


def test_the_abstract_of_the_paper():
    def best(kind, method, size=None):
        row = published.find(
            kind,
            "efficientnet-l2",
            method=method,
            image_size=800 if kind == "evaluation" else 475,
            stored_size=size and (size, size),
        )
        return percents(row)

    ours = published.NOISY_STUDENT
    assert best("evaluation", ours) == {"top_1": 88.4, "top_5": 98.7}
    assert best("imagenet_a", ours)["top_1"] == 83.7
    assert best("imagenet_c", ours, 299)["mean_corruption_error"] == 28.3
    assert best("imagenet_p", ours, 299)["mean_flip_rate"] == 12.2
    wsl = [row for row in ROWS if row.name == "ResNeXt-101 WSL"]
    assert [percents(row) for row in wsl] == [
        {"top_1": 85.4, "top_5": 97.6},
        {"top_1": 61.0},
        {"mean_corruption_error": 45.7},
        {"mean_flip_rate": 27.8},
    ]


def test_size_and_method_add_to_the_gain_that_the_paper_states():
    small, large = (
        published.find("evaluation", name, method=published.SUPERVISED)
        for name in ("efficientnet-b7", "efficientnet-l2")
    )
    student = published.find(
        "evaluation", "efficientnet-l2", method=published.NOISY_STUDENT
    )
    first, second, third = (
        row.figures["top_1"].percent for row in (small, large, student)
    )
    assert second - first == pytest.approx(0.5)
    assert third - second == pytest.approx(2.9)


def test_a_row_depends_on_the_size_of_the_stored_images():
    def error(size):
        row = published.find(
            "imagenet_c",
            "efficientnet-l2_475",
            method=published.SUPERVISED,
            stored_size=size,
        )
        return row and percents(row)

    assert error((224, 224)) == {"top_1": 62.6, "mean_corruption_error": 47.5}
    assert error([299, 299]) == {"top_1": 66.6, "mean_corruption_error": 42.5}
    assert error((224, 299)) is None
    assert error(None) is None


def test_l2_is_another_network_at_800_pixels():
    def top_1(name, size):
        row = published.find(
            "imagenet_a", name, method=published.NOISY_STUDENT, image_size=size
        )
        return row and row.figures["top_1"].percent

    assert top_1("efficientnet-l2_475", 475) == 83.7
    assert top_1("efficientnet-l2", 475) == 83.7
    assert top_1("efficientnet-l2", 800) is None
    assert top_1("resnet", 800) is None
    row = published.find(
        "imagenet_a",
        "efficientnet-l2",
        method=published.REEVALUATED,
        image_size=800,
    )
    assert percents(row) == {"top_1": 84.75, "top_5": 96.15}


def test_what_is_remembered_only_is_marked():
    marked = [
        (row.kind, row.stored_size, name)
        for row in ROWS
        for name, value in row.figures.items()
        if not value.confirmed
    ]
    assert marked == [
        ("imagenet_a", None, "top_5"),
        ("imagenet_c", 224, "top_1"),
        ("imagenet_c", 224, "mean_corruption_error"),
        ("imagenet_c", 299, "top_1"),
        ("imagenet_p", 224, "top_1"),
        ("imagenet_p", 299, "top_1"),
    ]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_row_has_figures_that_reports_have_and_a_source(name):
    for row in TABLES[name]:
        assert row.figures, row.name
        assert row.kind in measured.KINDS
        assert set(row.figures) <= set(measured.HEADINGS)
        for value in row.figures.values():
            assert 0 < value.percent < 100
            assert value.source
        tops = percents(row)
        if "top_5" in tops:
            assert tops["top_1"] < tops["top_5"]
        if row.method != published.OTHER:
            assert row.model_name in efficientnet.MODEL_NAMES


def test_numbers_of_parameters_are_those_of_the_networks():
    for row in published.FIGURE_2:
        card = info.model_card(
            config.ModelConfig(row.model_name, 1000, 224), batch_size=1
        )
        millions = card.trainable_params / 1e6
        # Printed with two digits, the larger ones cut off or rounded.
        assert row.params == pytest.approx(millions, abs=0.5, rel=0)
        if millions < 10:
            assert row.params == pytest.approx(millions, abs=0.1, rel=0)


def test_students_of_figure_2_are_better_and_larger_ones_better_still():
    halves = {
        method: [r for r in published.FIGURE_2 if r.method == method]
        for method in (published.SUPERVISED, published.NOISY_STUDENT)
    }
    without, with_it = halves.values()
    assert len(without) == len(with_it) == 9
    for first, second in zip(without, with_it):
        assert first.model_name == second.model_name
        assert first.params == second.params
        assert first.figures["top_1"].percent < second.figures["top_1"].percent
    for half in halves.values():
        accuracies = [row.figures["top_1"].percent for row in half]
        assert accuracies == sorted(accuracies)
        assert [r.params for r in half] == sorted(r.params for r in half)
