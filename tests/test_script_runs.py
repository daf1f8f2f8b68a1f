"""The scripts for data of a laptop's size, run whole with a few steps."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import cifar10
from tests import forked_python
from tests.test_scripts import ROOT, bash

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with forked_python.serving(tmp_path_factory.mktemp("python")) as variables:
        yield variables


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns a folder like CIFAR-10's; `train` has an image of `test`."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 2)):
        for name in cifar10.CLASS_NAMES:
            of_class = folder / split / name
            of_class.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(of_class / f"{number}.jpg")
    shutil.copy(
        folder / "test" / "cat" / "0.jpg",
        folder / "train" / "dog" / "evaluated.jpg",
    )
    return folder


@pytest.fixture(scope="module")
def reproduced(python, images, tmp_path_factory):
    """Returns the work directory of the reproduction, and what it printed."""
    work = tmp_path_factory.mktemp("reproduced")
    return work, run(reproduction(images, work), python)


def reproduction(images, work):
    return (
        f"cifar10/reproduce.sh --data_dir='{images}' --work_dir='{work}' "
        "--smoke"
    )


def run(command, python):
    """Runs a script, and returns what it printed."""
    result = bash(f"'{ROOT}/scripts'/{command}", **python)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def whole_chain(images, work, python, options=""):
    printed = run(
        f"cifar10/whole_chain.sh --image_dir='{images}' --work_dir='{work}' "
        f"--smoke {options}",
        python,
    )
    assert "Step 4: eval top-1" in printed


def test_the_quickstart(python, tmp_path):
    printed = run(f"quickstart.sh --smoke --work_dir='{tmp_path}'", python)
    assert "report.html" in printed
    assert (tmp_path / "report.html").exists()


def test_the_chain_of_cifar10(python, images, tmp_path):
    whole_chain(images, tmp_path, python)
    report = json.loads((tmp_path / "deduplicated/report.json").read_text())
    assert report["counters"] == {"dropped:same_bytes": 1, "kept": 120}


@pytest.mark.long
def test_the_chain_of_cifar10_on_beam(python, images, tmp_path):
    pytest.importorskip("apache_beam")
    for name, options in (("here", ""), ("beam", "--beam")):
        whole_chain(images, tmp_path / name, python, options)
    here = sorted((tmp_path / "here").rglob("*-of-*"))
    shards = [p for p in here if p.parts[-2] in ("data", "predictions")]
    assert len(shards) > 40
    for path in shards:
        other = tmp_path / "beam" / path.relative_to(tmp_path / "here")
        assert path.read_bytes() == other.read_bytes(), path


def test_the_reproduction(reproduced, python, images):
    work, printed = reproduced
    page = (work / "results.md").read_text()
    assert "the test images, evaluated once" in page
    assert page in printed
    stamps = {p: p.stat().st_mtime_ns for p in work.rglob("stages/**/*.json")}
    assert len(stamps) == 16
    run(reproduction(images, work), python)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


@pytest.mark.long
def test_arms_of_every_kind(python, images, tmp_path):
    """Labels of seven classes, pretraining, weights of the teacher."""
    arms = ("out_of_domain_hard", "finetuned", "from_teacher")
    run(
        f"{reproduction(images, tmp_path)} -- --arms={','.join(arms)} "
        "--seeds=1",
        python,
    )
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["split"] == "test"
    accuracies = {row["name"]: row["accuracies"] for row in summary["arms"]}
    for arm in arms:
        assert list(accuracies[arm]) == ["0"]


def test_the_robustness_of_what_was_reproduced(
    reproduced, python, images, tmp_path
):
    run(
        f"robustness/cifar10.sh --data_dir='{images}' --smoke "
        f"--work_dir='{reproduced[0]}' --output_dir='{tmp_path}'",
        python,
    )
    for benchmark in ("imagenet_c", "adversarial"):
        path = tmp_path / "seed_0" / "noisy_student" / f"{benchmark}.json"
        assert json.loads(path.read_text())["figures"]["num_images"] == 10


def write_svhn(folder):
    """Writes .mat files like those of SVHN, of a few images."""
    scipy_io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("train", 60), ("test", 20), ("extra", 80)):
        scipy_io.savemat(
            folder / f"{name}_32x32.mat",
            {
                "X": rng.integers(0, 256, (32, 32, 3, count), np.uint8),
                "y": rng.permutation(count)[:, None] % 10 + 1,
            },
        )


@pytest.fixture(scope="module")
def svhn(python, tmp_path_factory):
    """Returns the command of SVHN's chain, run once, and its directory."""
    folder = tmp_path_factory.mktemp("svhn")
    write_svhn(folder / "raw")
    chain = (
        f"svhn/whole_chain.sh --raw_dir='{folder}/raw' "
        f"--work_dir='{folder}/it' --smoke"
    )
    run(chain, python)
    return chain, folder / "it"


def test_the_chain_of_svhn(svhn):
    _, work = svhn
    assert (work / "student" / "checkpoint").exists()
    assert len(list((work / "reassigned").glob("train-*-of-*"))) == 2


@pytest.mark.long
def test_a_student_of_the_online_teacher_of_svhn(svhn, python):
    chain, work = svhn
    run(f"{chain} --online", python)
    assert (work / "online_student" / "checkpoint").exists()
