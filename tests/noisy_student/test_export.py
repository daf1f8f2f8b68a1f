import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

import efficientnet
from noisy_student import config, export, export_formats, models, preprocessing
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def randomize(network):
    """Moves every weight away from its initial value."""
    generator = np.random.default_rng(0)
    for weight in network.weights:
        noise = generator.uniform(-0.1, 0.1, weight.shape)
        weight.assign(weight * (1 + noise) + noise / 10)
    return network


SAMPLES = [fixtures.image_bytes(number % 3, number) for number in range(6)]


def logits_of(network, model, samples):
    view = preprocessing.eval_view(model)
    pixels = tf.stack([view(sample) for sample in samples])
    return network(pixels, training=False).numpy()


def assert_near(values, expected):
    # The logits of these networks spread over 0.04.
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    return randomize(models.build(fixtures.MODEL))


@pytest.fixture(scope="module")
def expected(network):
    return logits_of(network, fixtures.MODEL, SAMPLES)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """Returns (folder, report, warnings) of an export in all formats."""
    directory = tmp_path_factory.mktemp("export")
    settings = export.ExportConfig(
        fixtures.MODEL, "runs/a", str(directory), config.EXPORT_FORMATS
    )
    with warnings.catch_warnings(record=True) as caught:
        report = export.export(settings, network, SAMPLES)
    return directory, report, caught


@pytest.fixture
def settings(tmp_path):
    return export.ExportConfig(
        fixtures.MODEL, "runs/a", str(tmp_path / "out"), ("h5",)
    )


def test_every_format_is_known_bounded_and_written():
    names = set(config.EXPORT_FORMATS)
    assert names == set(export.BOUNDS) == set(export_formats.FORMATS)


def test_the_report_says_what_lies_there_and_how_near_it_is(exported, expected):
    directory, report, _ = exported
    assert json.loads((directory / "export.json").read_text()) == report
    assert report["checkpoint"] == "runs/a"
    assert report["num_samples"] == 6
    assert report["settings"]["model"] == config.to_dict(fixtures.MODEL)
    spread = expected.max() - expected.min()
    assert report["logit_spread"] == pytest.approx(spread, rel=1e-5)
    assert set(report["formats"]) == set(config.EXPORT_FORMATS)
    for name, figures in report["formats"].items():
        assert figures["bytes"] == export_formats.size(
            directory / figures["file"]
        )
        assert figures["max_logit_difference"] <= figures["bound"]
        assert figures["bound"] == pytest.approx(
            export.BOUNDS[name] * spread, rel=1e-5
        )
        assert 0 <= figures["top_1_agreement"] <= 1
        assert figures["seconds"] > 0
        assert figures["made_with"]["tensorflow"] == tf.__version__
    assert set(os.listdir(directory)) == {
        "export.json",
        *(figures["file"] for figures in report["formats"].values()),
    }


def test_float32_formats_agree_far_below_the_coarse_ones(exported):
    differences = {
        name: figures["max_logit_difference"]
        for name, figures in exported[1]["formats"].items()
    }
    assert differences["keras"] == differences["h5"] == 0
    assert differences["saved_model"] < differences["tflite_float16"]
    assert differences["tflite"] < differences["tflite_float16"]
    assert differences["tflite_float16"] < differences["tflite_int8"]


def test_exporting_warns_of_nothing(exported):
    assert [str(warning.message) for warning in exported[2]] == []


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_keras_files_load_without_custom_objects(
    name, exported, network, expected
):
    loaded = tf.keras.models.load_model(exported[0] / name, compile=False)
    assert isinstance(loaded, efficientnet.EfficientNet)
    assert loaded.input_shape == (None, 16, 16, 3)
    logits = logits_of(loaded, fixtures.MODEL, SAMPLES)
    np.testing.assert_array_equal(logits, expected)


def test_other_programs_load_the_files(exported, expected, tmp_path):
    (tmp_path / "image.png").write_bytes(SAMPLES[0])
    code = (
        "import sys\n"
        "import numpy as np\n"
        "import tensorflow as tf\n"
        f"model = tf.saved_model.load({str(exported[0] / 'saved_model')!r})\n"
        "serve = model.signatures['serving_default']\n"
        "image = open('image.png', 'rb').read()\n"
        "answer = serve(image_bytes=tf.constant([image, image]))\n"
        "assert not {'efficientnet', 'noisy_student'} & set(sys.modules)\n"
        "np.savez('answer.npz', **answer)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import efficientnet\n"
        f"tf.keras.models.load_model({str(exported[0] / 'model.keras')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    answer = np.load(tmp_path / "answer.npz")
    assert set(answer) == {"logits", "probabilities"}
    assert answer["logits"].dtype == answer["probabilities"].dtype == np.float32
    for row in range(2):
        assert_near(answer["logits"][row], expected[0])
        assert_near(answer["probabilities"][row], tf.nn.softmax(expected[0]))


def test_the_saved_model_takes_pixels_too(exported, expected):
    serve = tf.saved_model.load(str(exported[0] / "saved_model")).signatures
    assert set(serve) == {"serving_default", "pixels"}
    _, arguments = serve["pixels"].structured_input_signature
    assert arguments["pixels"].shape.as_list() == [None, 16, 16, 3]
    view = preprocessing.eval_view(fixtures.MODEL)
    answer = serve["pixels"](pixels=tf.stack([view(s) for s in SAMPLES]))
    assert_near(answer["logits"], expected)
    assert_near(answer["probabilities"], tf.nn.softmax(expected))


@pytest.mark.parametrize(
    "name,weights",
    [
        ("model.tflite", np.float32),
        ("model_float16.tflite", np.float16),
        ("model_int8.tflite", np.int8),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated")
def test_tflite_files_have_weights_of_their_type_between_floats(
    name, weights, exported
):
    interpreter = tf.lite.Interpreter(str(exported[0] / name))
    interpreter.allocate_tensors()
    (pixels,) = interpreter.get_input_details()
    (logits,) = interpreter.get_output_details()
    assert pixels["shape"].tolist() == [1, 16, 16, 3]
    assert logits["shape"].tolist() == [1, 3]
    assert pixels["dtype"] == logits["dtype"] == np.float32
    kernels = [
        tensor["dtype"]
        for tensor in interpreter.get_tensor_details()
        if len(tensor["shape"]) == 4 and 0 not in tensor["shape"]
    ]
    assert weights in kernels
    assert set(kernels) <= {np.float32, weights}


def test_the_saved_model_crops_and_resizes_photos(tmp_path):
    model = dataclasses.replace(
        fixtures.MODEL, small_image=False, image_size=32
    )
    generator = np.random.default_rng(0)
    photos = [
        tf.io.encode_jpeg(generator.integers(0, 256, shape, np.uint8)).numpy()
        for shape in ((40, 50, 3), (32, 32, 3), (90, 33, 3))
    ]
    # Of open input size: the exported one is closed all the same.
    network = randomize(
        efficientnet.build_model(
            "efficientnet-b0", 3, width_coefficient=0.1, depth_coefficient=0.1
        )
    )
    settings = export.ExportConfig(model, "a", str(tmp_path), ("saved_model",))
    export.export(settings, network, photos)
    serve = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    answer = serve["serving_default"](image_bytes=tf.constant(photos))
    expected = logits_of(network, model, photos)
    assert_near(answer["logits"], expected)
    _, arguments = serve["pixels"].structured_input_signature
    assert arguments["pixels"].shape.as_list() == [None, 32, 32, 3]


@dataclasses.dataclass
class QuickFormat:
    """A format that stores logits instead of a network.

    Attributes:
        logits: float32 [samples, classes].
        folder: Whether it writes a folder.
    """

    logits: np.ndarray
    folder: bool = False

    def write(self, source, path):
        self.source = source
        self.verbosity = logging.get_verbosity()
        if self.folder:
            os.mkdir(path)
            path = os.path.join(path, "logits")
        with open(path, "wb") as file:
            np.save(file, self.logits)

    def read(self, path, source):
        assert source is self.source
        path = os.path.join(path, "logits") if self.folder else path
        return np.load(path)[:, np.newaxis]


@pytest.fixture
def quick(monkeypatch, expected):
    """Makes three formats and the network quick; returns the formats."""
    formats = {
        name: QuickFormat(expected, folder=name == "saved_model")
        for name in ("keras", "h5", "saved_model")
    }
    for name, form in formats.items():
        replaced = dataclasses.replace(
            export_formats.FORMATS[name], write=form.write, read=form.read
        )
        monkeypatch.setitem(export_formats.FORMATS, name, replaced)
    monkeypatch.setattr(
        export_formats,
        "keras_logits",
        lambda network, pixels: expected[: len(pixels), np.newaxis],
    )
    return formats


def test_a_mirrored_bfloat16_network_is_exported_in_float32(
    settings, network, quick
):
    strategy = replicas_lib.two_replicas()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with strategy.scope():
            mixed = models.build(fixtures.MODEL)
        for weight, value in zip(mixed.weights, network.get_weights()):
            weight.assign(value)
        export.export(settings, mixed, SAMPLES)
        policy = tf.keras.mixed_precision.global_policy().name
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert policy == "mixed_bfloat16"
    copy = quick["h5"].source.network
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    for weight, value in zip(copy.weights, network.get_weights()):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("error", [0.5, float("nan")])
def test_a_file_too_far_from_the_network_is_not_published(
    error, settings, network, quick
):
    quick["keras"].logits = quick["keras"].logits + error
    both = dataclasses.replace(settings, formats=("keras", "h5"))
    message = (
        "^Not exported: keras: the largest logit difference to the network is "
        rf"{error}, beyond the bound \S+ \(1e-06 of the logits' spread\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        export.export(both, network, SAMPLES)
    assert sorted(os.listdir(both.output_dir)) == ["export.json", "model.h5"]
    report = json.loads(
        pathlib.Path(both.output_dir, "export.json").read_text()
    )
    assert list(report["formats"]) == ["h5"]


def test_an_exported_format_is_not_made_again_but_a_lost_one_is(
    settings, network, quick
):
    path = pathlib.Path(settings.output_dir, "model.h5")
    first = export.export(settings, network, SAMPLES)
    content = path.read_bytes()
    path.write_bytes(b"as it was")
    # One more format leaves the other alone.
    more = dataclasses.replace(settings, formats=("h5", "keras"))
    second = export.export(more, network, SAMPLES)
    assert path.read_bytes() == b"as it was"
    assert second["formats"]["h5"] == first["formats"]["h5"]
    path.unlink()
    third = export.export(settings, network, SAMPLES)
    assert path.read_bytes() == content
    assert set(third["formats"]) == {"h5", "keras"}


def test_a_folder_that_a_killed_export_left_is_replaced(
    settings, network, quick
):
    folder = dataclasses.replace(settings, formats=("saved_model",))
    left = pathlib.Path(folder.output_dir, "saved_model")
    left.mkdir(parents=True)
    (left / "stale").touch()
    export.export(folder, network, SAMPLES)
    assert os.listdir(left) == ["logits"]


def test_what_a_killed_export_left_is_removed_after_a_day(
    settings, network, quick
):
    out = pathlib.Path(settings.output_dir)
    for name, hours in ((".export-old", 25), (".export-new", 23)):
        (out / name).mkdir(parents=True)
        (out / name / "model.h5").touch()
        then = time.time() - 3600 * hours
        os.utime(out / name, (then, then))
    export.export(settings, network, SAMPLES)
    assert sorted(os.listdir(out)) == [
        ".export-new",
        "export.json",
        "model.h5",
    ]


def test_another_network_or_other_samples_are_refused(settings, network, quick):
    export.export(settings, network, SAMPLES)
    other = models.build(fixtures.MODEL)
    with pytest.raises(ValueError, match=r"other settings: `weights`: '\w+' b"):
        export.export(settings, other, SAMPLES)
    with pytest.raises(ValueError, match="`samples`: .* Use another directory"):
        export.export(settings, network, SAMPLES[:5])


def test_only_errors_of_the_formats_own_are_logged(settings, network, quick):
    before = logging.get_verbosity(), tf.get_logger().level
    export.export(settings, network, SAMPLES)
    assert quick["h5"].verbosity == logging.ERROR
    assert (logging.get_verbosity(), tf.get_logger().level) == before


def test_a_network_without_finite_logits_is_refused(settings):
    network = models.build(fixtures.MODEL)
    network.layers[-1].bias.assign([0.0, float("inf"), 0.0])
    with pytest.raises(ValueError, match="some of its logits are not finite"):
        export.export(settings, network, SAMPLES)
    assert not os.path.exists(settings.output_dir)


def test_there_must_be_a_sample(settings, network):
    with pytest.raises(ValueError, match="`samples` must hold at least one"):
        export.export(settings, network, [])


@pytest.mark.parametrize(
    "change,message",
    [
        ({"formats": ("keras", "onnx")}, "`formats` must be .* Received: ke"),
        ({"formats": ()}, "`formats` must be one or more of .*: none"),
        ({"output_dir": "gs://a/b"}, "`output_dir` must be a local .*'gs://a"),
    ],
)
def test_settings_are_checked(change, message, settings):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **change)
