import numpy as np
import pytest
import tensorflow as tf

from data_prep import prob_storage, records, validation

NUM_CLASSES = 20
PROBS = np.random.default_rng(0).dirichlet([0.3] * NUM_CLASSES, 5)
PROBS = PROBS.astype(np.float32)
STORAGES = {
    "full": prob_storage.DEFAULT,
    "float16": prob_storage.ProbStorage("float16"),
    "topk": prob_storage.ProbStorage("topk", 4),
}


def expected(probs, kind):
    """Returns what is read back of a distribution."""
    if kind == "full":
        return probs
    if kind == "float16":
        return probs.astype(np.float16).astype(np.float32)
    order = np.argsort(-probs)
    read = probs.copy()
    read[order[4:]] = (1 - probs[order[:4]].sum()) / (NUM_CLASSES - 4)
    return read


def prediction(number, kind):
    return records.prediction_example(
        PROBS[number], b"k%d" % number, storage=STORAGES[kind]
    )


@pytest.mark.parametrize("kind", STORAGES)
def test_every_storage_is_read_back_by_every_reader(kind):
    want = np.array([expected(row, kind) for row in PROBS])
    serialized = [prediction(i, kind) for i in range(len(PROBS))]
    batch = records.parse_prediction(serialized, NUM_CLASSES)
    np.testing.assert_allclose(batch["probs"], want, atol=1e-7)
    assert batch["label"].numpy().tolist() == PROBS.argmax(axis=1).tolist()
    for number, row in enumerate(want):
        probs, label, key = records.unpack_prediction(serialized[number])
        np.testing.assert_allclose(probs, row, atol=1e-7)
        assert probs.dtype == np.float32
        assert (label, key) == (PROBS[number].argmax(), b"k%d" % number)
        one = records.parse_prediction(serialized[number], NUM_CLASSES)
        np.testing.assert_allclose(one["probs"], row, atol=1e-7)


@pytest.mark.parametrize("kind", STORAGES)
def test_training_records_have_every_storage(kind):
    serialized = records.pseudo_labeled_example(
        b"\xff\xd8\xff", 3, PROBS[0][3], PROBS[0], b"k", storage=STORAGES[kind]
    )
    assert records.stores_probs(serialized)
    dataset = tf.data.Dataset.from_tensors(serialized).map(
        lambda record: records.parse_pseudo_labeled(record, NUM_CLASSES)
    )
    (parsed,) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(
        parsed["probs"], expected(PROBS[0], kind), atol=1e-7
    )
    assert (parsed["image_bytes"], parsed["key"]) == (b"\xff\xd8\xff", b"k")


def test_top_k_holds_the_largest_exactly_and_all_sum_to_one():
    probs, _, _ = records.unpack_prediction(prediction(1, "topk"))
    top = np.argsort(-PROBS[1])[:4]
    np.testing.assert_array_equal(probs[top], PROBS[1][top])
    others = np.delete(probs, top)
    assert len(set(others.tolist())) == 1
    assert probs.sum() == pytest.approx(1, abs=1e-6)


def test_float16_is_right_within_a_thousandth():
    probs, _, _ = records.unpack_prediction(prediction(1, "float16"))
    np.testing.assert_allclose(probs, PROBS[1], atol=1e-3)
    assert not np.array_equal(probs, PROBS[1])


@pytest.mark.parametrize("kind", STORAGES)
def test_storing_again_what_was_read_changes_nothing(kind):
    for number in range(len(PROBS)):
        serialized = prediction(number, kind)
        probs, _, key = records.unpack_prediction(serialized)
        again = records.prediction_example(probs, key, storage=STORAGES[kind])
        assert again == serialized


def test_a_batch_may_mix_storages():
    batch = [prediction(i, kind) for i, kind in enumerate(STORAGES)]
    parsed = records.parse_prediction(tf.constant(batch), NUM_CLASSES)
    want = [expected(PROBS[i], kind) for i, kind in enumerate(STORAGES)]
    np.testing.assert_allclose(parsed["probs"], want, atol=1e-7)


@pytest.mark.parametrize("kind", STORAGES)
def test_a_distribution_over_other_classes_is_an_error(kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match="probabilities"):
        records.parse_prediction(prediction(0, kind), NUM_CLASSES + 1)


@pytest.mark.parametrize("kind", STORAGES)
def test_validation_reads_every_storage(kind):
    values = validation.check_record(
        prediction(0, kind), "prediction", NUM_CLASSES, ""
    )
    assert len(values[records.PROBS]) == NUM_CLASSES
    with pytest.raises(records.RecordError, match="must hold 3 values, has 20"):
        validation.check_record(prediction(0, kind), "prediction", 3, "")


def broken(field, values):
    """Returns a top-k record with another field; None leaves it out."""
    example = tf.train.Example.FromString(prediction(0, "topk"))
    del example.features.feature[field]
    if values is not None:
        numbers = tf.train.Int64List(value=values)
        feature = tf.train.Feature(int64_list=numbers)
        example.features.feature[field].CopyFrom(feature)
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("top_classes", None, "field 'top_classes' is missing"),
        ("num_classes", None, "field 'num_classes' is missing"),
        ("top_probabilities", None, "field 'probabilities' is missing"),
        ("top_classes", [1, 2, 3], "Received: 4 and 3"),
        ("top_classes", [1, 2, 3, 3], "different classes"),
        ("top_classes", [1, 2, 3, 20], r"in 0\.\.19. Received: 1\.\.20"),
        ("num_classes", [3], "of 3 at most"),
    ],
)
def test_a_malformed_distribution_is_named(field, values, message):
    serialized = broken(field, values)
    with pytest.raises(records.RecordError, match=message):
        records.unpack_prediction(serialized)
    with pytest.raises(records.RecordError, match=f"^here: .*{message}"):
        validation.check_record(serialized, "prediction", None, "here: ")
    if values != [1, 2, 3, 3]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            records.parse_prediction(serialized, NUM_CLASSES)


def test_an_odd_number_of_bytes_is_no_distribution():
    example = tf.train.Example.FromString(prediction(0, "float16"))
    feature = example.features.feature["probabilities_float16"]
    feature.bytes_list.value[0] = b"abc"
    with pytest.raises(records.RecordError, match="two bytes a class, has 3"):
        records.unpack_prediction(example.SerializeToString())


@pytest.mark.parametrize("count", [0, 1, 31, 32, 1000, 5000])
def test_packed_numbers_are_those_of_a_list(count):
    values = np.random.default_rng(count).normal(size=count)
    wanted = tf.train.FloatList(value=values.astype(np.float32))
    found = tf.train.FloatList.FromString(prob_storage.packed_floats(values))
    assert found == wanted


def test_storages_are_checked():
    with pytest.raises(ValueError, match="`kind` must be one of .*'half'"):
        prob_storage.ProbStorage("half")
    with pytest.raises(ValueError, match="`num_stored` .* Received: 0"):
        prob_storage.ProbStorage("topk", 0)
    with pytest.raises(ValueError, match="<= 3, .* Received: 4"):
        STORAGES["topk"].check_classes(3)
    STORAGES["full"].check_classes(3)
