"""How workers agree, on strategies that only look like several of them."""

import types

import pytest
import tensorflow as tf

from noisy_student import main as main_lib
from noisy_student import run_dir, self_training, workers
from tests import replicas


class Worker:
    """Looks like the strategy of one of two workers and a chief."""

    def __init__(self, job, index):
        self.num_replicas_in_sync = 3
        self.cluster_resolver = types.SimpleNamespace(
            task_type=job,
            task_id=index,
            cluster_spec=lambda: tf.train.ClusterSpec(
                {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
            ),
        )


@pytest.fixture
def of_three(monkeypatch):
    """Returns (strategy, answers): what the others say when it gathers."""
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Worker)
    answers = {"first": 0, "last": 0, "gathered": []}

    def gather(strategy, value):
        answers["gathered"].append(value)
        return [answers["first"], value, answers["last"]]

    monkeypatch.setattr(workers, "gather", gather)
    return Worker("worker", 0), answers


def test_the_chief_counts_first_and_is_the_one_that_writes(of_three):
    chief, first, second = (
        Worker("chief", 0),
        Worker("worker", 0),
        Worker("worker", 1),
    )
    assert [workers.is_chief(w) for w in (chief, first, second)] == [
        True,
        False,
        False,
    ]
    assert list(map(workers.index, (chief, first, second))) == [0, 1, 2]
    assert workers.name(chief) == "chief 0"
    assert workers.name(second) == "worker 1"
    assert workers.count(second) == 3


@pytest.mark.parametrize(
    "strategy",
    [tf.distribute.OneDeviceStrategy("/cpu:0"), replicas.two_replicas()],
    ids=["one", "mirrored"],
)
def test_one_machine_is_its_own_chief(strategy, tmp_path):
    assert workers.is_chief(strategy)
    assert workers.count(strategy) == 1
    assert workers.gather(strategy, 7) == [7]
    with workers.together(strategy):
        workers.check_same(strategy, {"seed": 1})
        workers.check_same_step(strategy, 3)
    assert workers.claim(strategy, str(tmp_path), {"a": 1}) is None
    with pytest.raises(ValueError, match="other settings"):
        run_dir.write_report(str(tmp_path), {})
        workers.claim(strategy, str(tmp_path), {"a": 2})


@pytest.mark.parametrize(
    ("job", "is_remote"), [("localhost", False), ("worker", True)]
)
def test_a_tpu_elsewhere_reads_in_other_processes(monkeypatch, job, is_remote):
    class Tpu:
        extended = types.SimpleNamespace(
            worker_devices=(f"/job:{job}/replica:0/task:0/device:TPU:0",)
        )

    assert not workers.has_remote_hosts(tf.distribute.get_strategy())
    monkeypatch.setattr(tf.distribute, "TPUStrategy", Tpu)
    assert workers.has_remote_hosts(Tpu()) == is_remote


def test_a_block_that_fails_elsewhere_fails_here_and_says_where(of_three):
    strategy, answers = of_three
    answers.update(first=1, last=1)
    message = "worker 0 stops because chief 0 and worker 1 did"
    with pytest.raises(ValueError, match=message), workers.together(strategy):
        pass
    assert answers["gathered"] == [0]


def test_a_block_that_fails_here_tells_the_others_and_keeps_its_error(of_three):
    strategy, answers = of_three
    wrong = pytest.raises(FileNotFoundError, match="x")
    with wrong, workers.together(strategy):
        raise FileNotFoundError("x")
    assert answers["gathered"] == [1]


def test_an_error_is_kept_where_the_others_cannot_be_told(
    of_three, monkeypatch
):
    strategy, _ = of_three

    def lost(strategy, value):
        raise tf.errors.UnavailableError(None, None, "gone")

    monkeypatch.setattr(workers, "gather", lost)
    with pytest.raises(FileNotFoundError), workers.together(strategy):
        raise FileNotFoundError("x")


def test_workers_with_other_settings_or_steps_are_refused(of_three):
    strategy, answers = of_three
    with pytest.raises(ValueError, match="different settings or data"):
        workers.check_same(strategy, {"seed": 1})
    answers.update(first=4, last=0)
    with pytest.raises(ValueError, match="different steps: 4, 4, 0. .*--model"):
        workers.check_same_step(strategy, 4)


def test_only_the_chief_claims_and_the_others_find_it(of_three, tmp_path):
    follower, _ = of_three
    directory = str(tmp_path)
    with pytest.raises(ValueError, match="one directory that all workers see"):
        workers.claim(follower, directory, {"a": 1})
    assert not list(tmp_path.iterdir())
    assert workers.claim(Worker("chief", 0), directory, {"a": 1}) is None
    assert workers.claim(follower, directory, {"a": 1}) is None
    run_dir.write_report(directory, {"x": 1})
    assert workers.claim(follower, directory, {"a": 1}) == {"x": 1}


# As TensorFlow 2.15 and 2.21 say it.
LOST = (
    "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/task:0/"
    "device:CPU:0}} Collective ops is aborted by: Connection reset by peer "
    "The error could be from a previous operation. Restart your program to "
    "reset. [Op:CollectiveReduceV2] name: "
)
LOST_IN_A_STEP = (
    "Graph execution error:\n\nDetected at node while/CollectiveReduceV2 "
    "defined at (most recent call last):\n  File ...\nCollective ops is "
    "aborted by: Connection reset by peer\nAdditional GRPC error information "
    "from remote target /job:worker/replica:0/task:1 ... The error could be "
    "from a previous operation. Restart your program to reset.\n\t "
    "[[{{node while/CollectiveReduceV2}}]] [Op:__inference_run_steps_14704]"
)


@pytest.mark.parametrize("text", [LOST, LOST_IN_A_STEP])
@pytest.mark.parametrize(
    "error", [tf.errors.UnavailableError, tf.errors.InternalError]
)
def test_the_loss_of_a_worker_is_said_in_words(of_three, error, text):
    strategy, _ = of_three
    lost = pytest.raises(ConnectionError)
    with lost as caught, workers.explain_loss(strategy):
        raise error(None, None, text)
    assert str(caught.value) == (
        "worker 0 lost another worker, which ended or cannot be reached. "
        "Start all of them again: training goes on from the last checkpoint. "
        "TensorFlow says: Collective ops is aborted by: Connection reset by "
        "peer"
    )


def test_other_errors_and_those_of_one_machine_stay_as_they_are(of_three):
    strategy, _ = of_three
    alone = tf.distribute.get_strategy()
    for place, error in (
        (strategy, tf.errors.InvalidArgumentError),
        (strategy, tf.errors.InternalError),
        (alone, tf.errors.UnavailableError),
    ):
        with pytest.raises(error), workers.explain_loss(place):
            raise error(None, None, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "Received: None"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "Received: 'ps'",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": "evaluator", "index": 0}}',
            "Received: 'evaluator'",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": "worker", "index": 2}}',
            "no worker 2 among the 2",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": "worker", "index": "0"}}',
            "no worker '0' among the 2",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": null}',
            "must be a JSON object with `cluster`",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": ["worker"], "index": 0}}',
            "must be a JSON object with `cluster`",
        ),
        (
            '{"cluster": {"worker": "localhost:1"}, '
            '"task": {"type": "worker", "index": 0}}',
            "must be a JSON object with `cluster`",
        ),
        (
            '{"cluster": {"chief": ["a:1", "b:1"]}, '
            '"task": {"type": "chief", "index": 0}}',
            "one `chief`. Received: 2",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": "worker", "index": true}}',
            "no worker True among the 2",
        ),
    ],
)
def test_a_tf_config_that_names_no_worker_is_refused(
    monkeypatch, text, message
):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=f"TF_CONFIG.*{message}"):
        workers.num_named()


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": ["a:1"]}}'])
def test_a_tf_config_of_one_worker_or_none_means_one_machine(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert workers.num_named() == 1


TWO = (
    '{"cluster": {"worker": ["a:1", "b:1"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def test_export_is_not_shared(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", TWO)
    monkeypatch.setattr(main_lib.preflight, "check_paths", lambda run: None)
    run = types.SimpleNamespace(mode="export", follow=False)
    monkeypatch.setattr(main_lib.flags_lib, "warn_of_legacy_flags", id)
    monkeypatch.setattr(main_lib.flags_lib, "warn_of_ignored_flags", id)
    monkeypatch.setattr(main_lib.flags_lib, "config_from_flags", lambda _: run)
    monkeypatch.setattr(main_lib.flags_lib, "with_trained_models", lambda r: r)
    with pytest.raises(ValueError, match="--mode=export .* with 2 workers"):
        main_lib.main(None)


def test_self_training_is_not_shared(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", TWO)
    monkeypatch.setattr(self_training, "_check_paths", lambda config: None)
    monkeypatch.setattr(run_dir, "read_report", lambda directory: None)
    with pytest.raises(ValueError, match="Self-training runs on one"):
        self_training.run(types.SimpleNamespace(work_dir="x"), None)
