"""Tests of the command that corrupts images of one's own."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from PIL import Image

from data_prep import class_names, files, records
from noisy_student import labeled_images
from noisy_student.robustness import corruptions
from noisy_student.robustness.distortions import distort
from tests.data_prep import tfds_sets
from tests.noisy_student import fixtures
from tests.noisy_student.robustness import pictures

FEW = ("--corruptions=shot_noise", "--severities=1,5")
PARTS = ("shot_noise/1", "shot_noise/5")


@pytest.fixture
def photos(tmp_path):
    """Returns a folder of two classes of two pictures each."""
    pictures.write_folder(tmp_path / "photos", num_images=2)
    return tmp_path / "photos"


def config_of(*arguments):
    flag_values = flags.FlagValues()
    corruptions.define_flags(flag_values)
    flag_values(["corruptions", *map(str, arguments)])
    return corruptions.config_from_flags(flag_values)


def run(photos, *arguments, output="out"):
    """Runs the command on a folder; returns (output folder, its counts)."""
    folder = photos.parent / output
    config = config_of(
        f"--input={photos}", f"--output_dir={folder}", *arguments
    )
    return folder, corruptions.write(config)


def files_in(folder):
    """Returns {path below a folder: content} of what is not hidden."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "/." not in path.as_posix()
    }


def images_in(folder):
    return {
        name: data
        for name, data in files_in(folder).items()
        if not name.endswith(".json")
    }


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_output_has_the_released_layout(photos):
    out, counts = run(photos, *FEW)
    assert counts == (2, 2)
    assert sorted(images_in(out)) == [
        f"{part}/{name}/{number}.JPEG"
        for part in PARTS
        for name in ("cat", "dog")
        for number in range(2)
    ]
    with Image.open(out / "shot_noise/1/cat/0.JPEG") as image:
        assert image.format == "JPEG"
        assert image.size == (40, 30)
    # What an evaluation makes of it.
    source = labeled_images.open_source(
        str(out / "shot_noise/5"), split="", num_classes=2
    )
    labels = sorted(int(image["label"]) for image in source.dataset())
    assert labels == [0, 0, 1, 1]


def test_files_hold_what_corrupt_makes(photos):
    out, _ = run(photos, *FEW, "--format=png", "--seed=3")
    clean = pixels(photos / "dog" / "1.png")
    for part in PARTS:
        name, severity = part.split("/")
        expected = distort.corrupt(
            clean, name, int(severity), seed=3, key=b"dog/1"
        )
        assert np.array_equal(pixels(out / part / "dog" / "1.png"), expected)


def test_a_lower_jpeg_quality_makes_smaller_files(photos):
    sizes = []
    for quality in (85, 30):
        flag = f"--jpeg_quality={quality}"
        out, _ = run(photos, *FEW, flag, output=f"quality_{quality}")
        sizes.append(sum(map(len, images_in(out).values())))
    assert sizes[1] < 0.7 * sizes[0]


def test_images_are_resized_and_cropped_as_the_released_ones(tmp_path):
    pictures.write_folder(tmp_path / "photos", size=(80, 64), num_images=1)
    out, _ = run(
        tmp_path / "photos",
        "--image_size=28",
        "--format=png",
        "--corruptions=contrast",
        "--severities=1",
    )
    # 64 becomes 32, the middle 28 of 40 and of 32 are left.
    with Image.open(tmp_path / "photos/cat/0.png") as image:
        cropped = image.resize((40, 32), Image.BILINEAR).crop((6, 2, 34, 30))
    expected = distort.corrupt(np.asarray(cropped), "contrast", 1, seed=0)
    assert np.array_equal(pixels(out / "contrast/1/cat/0.png"), expected)


def test_perturbations_are_folders_of_frames(photos):
    out, counts = run(
        photos,
        "--what=perturbations",
        "--perturbations=rotate,translate",
        "--image_size=24",
        "--format=png",
    )
    assert counts == (2, 2)
    names = sorted(images_in(out))
    assert len(names) == 4 * 31 + 4 * 16
    assert names[0] == "rotate/cat/0/000.png"
    assert names[30] == "rotate/cat/0/030.png"
    assert names[-1] == "translate/dog/1/015.png"
    assert pixels(out / names[0]).shape == (24, 24, 3)


def test_a_finished_run_does_nothing_and_needs_no_tensorflow(photos):
    out, _ = run(photos, *FEW)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code = (
        "import sys\n"
        "from noisy_student.robustness import corruptions as c\n"
        "config = c.CorruptionsConfig(sys.argv[1], sys.argv[2],\n"
        "    corruptions=('shot_noise',), severities=(1, 5))\n"
        "assert c.write(config) == (2, 0)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    root = pathlib.Path(corruptions.__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(photos), str(out)],
        check=True,
        cwd=root,
    )
    assert run(photos, *FEW)[1] == (2, 0)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert after == before


def test_a_killed_run_goes_on_with_the_images_that_are_missing(photos):
    out, _ = run(photos, *FEW)
    before = files_in(out)
    (out / ".done/shot_noise-1.json").unlink()
    lost = out / "shot_noise/1/dog/1.JPEG"
    lost.unlink()
    # What a killed process leaves of the file it was writing.
    left = lost.with_name(".1.JPEG.123-abc.tmp")
    left.write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.JPEG")}
    assert run(photos, *FEW)[1] == (2, 1)
    assert files_in(out) == before
    assert not left.exists()
    for path, time in times.items():
        assert path.stat().st_mtime_ns == time


def test_a_sequence_that_was_cut_short_is_made_again(photos):
    arguments = ("--what=perturbations", "--perturbations=translate")
    out, _ = run(photos, *arguments)
    before = files_in(out)
    (out / ".done/translate.json").unlink()
    # The first frame is written last.
    for number in (0, 1, 2):
        (out / f"translate/cat/1/{number:03d}.JPEG").unlink()
    assert run(photos, *arguments)[1] == (1, 1)
    assert files_in(out) == before


def test_a_sequence_has_its_first_frame_when_it_has_all(photos, monkeypatch):
    write_bytes, calls = files.write_bytes, []

    def fail_in_time(path, data):
        calls.append(path)
        if len(calls) > 20:
            raise OSError("no space left")
        write_bytes(path, data)

    arguments = ("--what=perturbations", "--perturbations=translate")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", fail_in_time)
        with pytest.raises(OSError, match="no space left"):
            run(photos, *arguments)
    folders = list((photos.parent / "out/translate").glob("*/*"))
    assert any(len(list(folder.iterdir())) < 16 for folder in folders)
    for folder in folders:
        complete = len(list(folder.iterdir())) == 16
        assert (folder / "000.JPEG").exists() == complete


def test_order_and_company_of_the_parts_change_no_byte(photos):
    out, _ = run(photos, "--corruptions=fog,shot_noise", "--severities=1,5")
    other, _ = run(
        photos, "--corruptions=shot_noise", "--severities=5,1", output="other"
    )
    for name, data in images_in(other).items():
        assert data == (out / name).read_bytes()
    assert len(images_in(other)) == 8


def test_further_parts_may_be_added_but_no_other_settings(photos):
    out, _ = run(photos, *FEW)
    assert run(photos, "--corruptions=fog", "--severities=2")[1] == (1, 1)
    with pytest.raises(
        ValueError,
        match="holds a run with other settings: `seed`: 0 before, 1 now. "
        "Write to another folder",
    ):
        run(photos, *FEW, "--seed=1")
    with pytest.raises(ValueError, match="`what`: 'corruptions' before"):
        run(photos, "--what=perturbations")
    with pytest.raises(ValueError, match="`jpeg_quality`: 85 before, 90 now"):
        run(photos, *FEW, "--jpeg_quality=90")


def test_other_images_are_refused_before_anything_is_written(photos):
    run(photos, *FEW)
    shutil.copy(photos / "cat/0.png", photos / "cat/new.png")
    with pytest.raises(
        ValueError, match="other images: .*`num_images`: 4 before, 5 now"
    ):
        run(photos, "--corruptions=fog")
    assert not (photos.parent / "out" / "fog").exists()


def test_two_images_of_one_name_are_refused(photos):
    shutil.copy(photos / "cat/0.png", photos / "cat/0.jpg")
    with pytest.raises(
        ValueError,
        match="1 names are those of two images or more, .*cat/0",
    ):
        run(photos, *FEW)
    assert not (photos.parent / "out").exists()


def test_an_order_of_classes_is_handed_on(photos):
    (photos / "classes.json").write_text(json.dumps(["dog", "cat"]))
    out, _ = run(photos, "--corruptions=contrast", "--severities=1")
    text = (out / "contrast/1/classes.json").read_text()
    assert json.loads(text) == ["dog", "cat"]


def test_images_in_sub_folders_stay_in_the_folder_of_their_class(photos):
    (photos / "cat/more").mkdir()
    shutil.move(photos / "cat/1.png", photos / "cat/more/1.png")
    out, _ = run(photos, "--corruptions=contrast", "--severities=1")
    found = sorted(path.name for path in (out / "contrast/1/cat").iterdir())
    assert found == ["0.JPEG", "more_1.JPEG"]


def test_shards_become_numbered_images_in_folders_of_their_classes(tmp_path):
    fixtures.write_labeled(tmp_path / "shards", "test", 5)
    out, _ = run(
        tmp_path / "shards",
        "--eval_split=test",
        "--corruptions=contrast",
        "--severities=1",
    )
    # Image i has class i modulo 3, and the first shard the even ones.
    assert sorted(images_in(out / "contrast/1")) == [
        "0/00000000.JPEG",
        "0/00000004.JPEG",
        "1/00000002.JPEG",
        "1/00000003.JPEG",
        "2/00000001.JPEG",
    ]


def test_a_tfds_set_is_numbered_too(tmp_path):
    with tfds_sets.prepared(tmp_path):
        config = config_of(
            "--input=tfds:three_shades",
            "--image_size=16",
            "--eval_split=test[:4]",
            f"--output_dir={tmp_path / 'out'}",
            "--corruptions=contrast",
            "--severities=1",
        )
        assert corruptions.write(config) == (1, 1)
    found = images_in(tmp_path / "out/contrast/1")
    assert {int(name.split("/")[1][:8]) for name in found} == {0, 1, 2, 3}
    assert {name[:2] for name in found} <= {"0/", "1/", "2/"}


def test_a_list_names_its_images(photos):
    listed = photos / "list.txt"
    listed.write_text("dog/1.png n01440764\ncat/0.png 999\n")
    with pytest.raises(ValueError, match="a list needs --num_classes"):
        run(listed, *FEW)
    out, _ = run(
        listed,
        "--num_classes=1000",
        "--corruptions=contrast",
        "--severities=1",
        output="listed",
    )
    last, _ = class_names.imagenet_classes()[999]
    assert sorted(images_in(out / "contrast/1")) == [
        "n01440764/1.JPEG",
        f"{last}/0.JPEG",
    ]


def test_textures_of_ones_own_are_used_and_known_again(photos, tmp_path):
    textures = tmp_path / "ice"
    textures.mkdir()
    Image.new("RGB", (50, 50), (50, 50, 50)).save(textures / "ice.png")
    arguments = ("--corruptions=frost", "--severities=1", "--format=png")
    out, _ = run(photos, *arguments, f"--frost_textures={textures}")
    clean = pixels(photos / "cat/0.png").astype(int)
    # Small images: all of the image, and 0.2 of the texture.
    expected = np.minimum(clean + 10, 255)
    assert np.array_equal(pixels(out / "frost/1/cat/0.png"), expected)
    with pytest.raises(ValueError, match="`frost_textures`: '.*' before, None"):
        run(photos, *arguments)
    (textures / "notes.txt").write_text("no image")
    with pytest.raises(
        ValueError, match="1 files are no textures: .*notes.txt.*no image"
    ):
        run(photos, *arguments, f"--frost_textures={textures}", output="new")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        run(photos, *arguments, "--frost_textures=nowhere", output="new")


def test_room_and_constants_are_told_before_the_work(
    photos, caplog, monkeypatch
):
    from absl import logging

    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    caplog.set_level("INFO", logger="absl")
    out, _ = run(photos, *FEW)
    (first, *_) = caplog.messages
    assert first.startswith("4 images, 2 parts to write, about 0.0 MB on disk")
    assert first.endswith("constants of CIFAR-10-C below 64 pixels.")
    run(photos, *FEW, "--image_size=64", output="large")
    assert any(m.endswith("constants of ImageNet-C.") for m in caplog.messages)


def test_a_damaged_image_is_named(photos):
    pictures.write_folder(photos.parent / "jpegs", suffix=".jpg")
    damaged = photos.parent / "jpegs/dog/1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(ValueError, match="jpegs/dog/1.jpg.*truncated or dam"):
        run(photos.parent / "jpegs", *FEW)


def test_a_damaged_record_is_named(tmp_path):
    with records.ShardedWriter(
        str(tmp_path / "shards"), "test", 1, kind="labeled", config={}
    ).open_shard(0) as shard:
        good = fixtures.image_bytes(0, 0)
        shard.write(records.labeled_example(good, 1, "a"), 1)
        shard.write(records.labeled_example(b"bad", 1, "b"), 1)
    with pytest.raises(ValueError, match="00001: record 1: no image."):
        run(tmp_path / "shards", *FEW, "--eval_split=test")


def test_a_label_beyond_the_classes_is_named(tmp_path):
    fixtures.write_labeled(tmp_path / "shards", "test", 3)
    with pytest.raises(
        ValueError, match=r"record \d: label [12], not in 0..0\."
    ):
        run(tmp_path / "shards", *FEW, "--eval_split=test", "--num_classes=1")


def test_an_image_that_is_too_small_is_named(tmp_path):
    pictures.write_folder(tmp_path / "photos", size=(20, 7), num_images=1)
    with pytest.raises(
        ValueError, match="cat/0.png: `image` must have sides of at least 8"
    ):
        run(tmp_path / "photos", *FEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--severities=6"], "`severity` must be in 1..5. Received: 6."),
        (["--severities=one"], r"--severities must be numbers. .*\['one'\]"),
        (["--severities=1,1"], "`severities` must be one or more different"),
        (["--corruptions="], "`corruptions` must be .* Received: none."),
        (["--corruptions=rain"], "No such corruption; .* Received: 'rain'."),
        (
            ["--what=perturbations", "--perturbations=fog"],
            "No such perturbation; .*'fog'",
        ),
        (["--input="], "--input is needed."),
        (["--output_dir="], "--output_dir is needed."),
    ],
)
def test_wrong_flags_are_answered(arguments, message):
    with pytest.raises(ValueError, match=message):
        config_of("--input=a", "--output_dir=b", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--perturbations=rotate"],
            "is of --what=perturbations, not",
        ),
        (["--what=perturbations", "--corruptions=fog"], "--corruptions is of"),
        (["--what=perturbations", "--severities=1"], "not of perturbations"),
        (["--what=perturbations", "--frost_textures=ice"], "--frost_textures"),
        (["--format=png", "--jpeg_quality=9"], "is of --format=jpeg, not of p"),
    ],
)
def test_flags_that_would_not_be_read_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        config_of("--input=a", "--output_dir=b", *arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("what", "both"), ("format", "gif"), ("image_size", 7)],
)
def test_wrong_settings_are_answered(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*{value}"):
        corruptions.CorruptionsConfig("a", "b", **{name: value})


def test_an_input_that_is_not_there_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(FileNotFoundError, match="--input=.*nowhere: no such"):
        run(tmp_path / "nowhere", *FEW, "--num_classes=2")
    assert not (tmp_path / "out").exists()


def test_the_15_corruptions_are_the_default():
    config = config_of("--input=a", "--output_dir=b")
    assert config == corruptions.CorruptionsConfig("a", "b")
    assert config.corruptions == distort.CORRUPTIONS
    assert config.severities == (1, 2, 3, 4, 5)
    assert config.jpeg_quality == 85


def test_main_tells_what_was_written(photos, caplog, monkeypatch):
    from absl import logging

    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    caplog.set_level("INFO", logger="absl")
    flag_values = flags.FlagValues()
    corruptions.define_flags(flag_values)
    out = photos.parent / "out"
    flag_values(["c", f"--input={photos}", f"--output_dir={out}", *FEW])
    corruptions.main(flag_values)
    assert caplog.messages[-1] == f"{out}: 2 parts, 2 of them written now."


def test_help_and_wrong_flags_need_neither_tensorflow_nor_scipy():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['corruptions', *sys.argv[1:]]\n"
        "name = 'noisy_student.robustness.corruptions'\n"
        "try: runpy.run_module(name, run_name='__main__')\n"
        "finally: assert not {'tensorflow', 'scipy'} & set(sys.modules)"
    )
    root = pathlib.Path(corruptions.__file__).parents[2]
    for arguments, status in (
        (["--help"], 0),
        (["--input=a", "--output_dir=b", "--severities=6"], 1),
    ):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            cwd=root,
        )
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: `severity` must be in 1..5.")


def test_a_sample_of_the_images_is_taken(photos):
    out, counts = run(photos, *FEW, "--num_images=2")
    assert counts == (2, 2)
    assert sorted(images_in(out)) == [
        f"{part}/{name}/1.JPEG" for part in PARTS for name in ("cat", "dog")
    ]
    with pytest.raises(ValueError, match="`num_images`: 2 before, 3 now"):
        run(photos, *FEW, "--num_images=3")
