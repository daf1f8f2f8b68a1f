import json
import types

import pytest
import tensorflow as tf

from noisy_student import hardware_config, strategy

pytestmark = pytest.mark.slow

# A processor's, a network card's, and a card's of the vendor of TPUs.
PCI = {"0": ("0x8086", "0x1237"), "1": ("0x1ae0", "0x0042"), "2": ("0x1ae0",)}
LOCAL = "/job:localhost/replica:0/task:0/device:"


class FakeStrategy:
    """Stands for a strategy of devices that are not at hand."""

    def __init__(self, devices, *, replicas=None, resolver=None):
        self.extended = types.SimpleNamespace(worker_devices=devices)
        self.num_replicas_in_sync = replicas or len(devices)
        self.cluster_resolver = resolver


@pytest.fixture
def calls():
    """Returns the list of calls that `record` notes, in order."""
    return []


@pytest.fixture
def record(monkeypatch, calls):
    """Returns a function that replaces one of TensorFlow's by a note of it."""

    def replace(owner, name, result=None):
        def call(*args, **kwargs):
            calls.append((name, args, kwargs))
            return result

        monkeypatch.setattr(owner, name, call)

    return replace


@pytest.fixture
def two_gpus(record):
    physical = ["physical 0", "physical 1"]
    record(tf.config, "list_physical_devices", physical)
    record(tf.config.experimental, "set_memory_growth")
    logical = [tf.config.LogicalDevice(f"/GPU:{i}", "GPU") for i in range(2)]
    record(tf.config, "list_logical_devices", logical)


@pytest.fixture
def logged(monkeypatch):
    """Returns the lines that `create_strategy` logs."""
    lines = []
    monkeypatch.setattr(
        strategy.logging, "info", lambda text, *args: lines.append(text % args)
    )
    return lines


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Returns the folder of a machine's device files; it has no TPU."""
    monkeypatch.delenv("TPU_NAME", raising=False)
    for name in ("_DEVICE_FILES", "_PCI_DEVICES"):
        folder = tmp_path / "machine" / name
        folder.mkdir(parents=True)
        monkeypatch.setattr(strategy, name, str(folder))
    # Another accelerator's.
    (tmp_path / "machine/_DEVICE_FILES/accel").mkdir()
    for slot, identity in PCI.items():
        add_pci_device(tmp_path / "machine", slot, *identity)
    return tmp_path / "machine"


def add_pci_device(machine, slot, vendor, device=None):
    folder = machine / "_PCI_DEVICES" / slot
    folder.mkdir()
    (folder / "vendor").write_text(f"{vendor}\n")
    if device is not None:
        (folder / "device").write_text(f"{device}\n")


def name_workers(monkeypatch, *, index=0, job="worker", **jobs):
    cluster = jobs or {"worker": ["localhost:0", "localhost:1"]}
    task = {"type": job, "index": index}
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": cluster, "task": task})
    )


def test_a_machine_without_accelerators_uses_its_cpu(logged):
    created = strategy.create_strategy(hardware_config.HardwareConfig())
    assert isinstance(created, tf.distribute.OneDeviceStrategy)
    assert created.num_replicas_in_sync == 1
    assert logged == ["1 replica on CPU:0."]


def test_virtual_devices_become_replicas(logged):
    hardware = hardware_config.HardwareConfig(num_virtual_devices=2)
    created = strategy.create_strategy(hardware)
    assert created.num_replicas_in_sync == 2
    assert logged == ["2 replicas on CPU:0, CPU:1."]


def test_all_gpus_are_used_and_leave_memory_to_others(
    two_gpus, record, calls, logged
):
    gpus = [f"{LOCAL}GPU:0", f"{LOCAL}GPU:1"]
    record(tf.distribute, "MirroredStrategy", FakeStrategy(gpus))
    strategy.create_strategy(hardware_config.HardwareConfig())
    assert calls == [
        ("list_physical_devices", ("GPU",), {}),
        # Too late once logical devices are there.
        ("set_memory_growth", ("physical 0", True), {}),
        ("set_memory_growth", ("physical 1", True), {}),
        ("list_logical_devices", ("GPU",), {}),
        ("MirroredStrategy", (["/GPU:0", "/GPU:1"],), {}),
    ]
    assert logged == ["2 replicas on GPU:0, GPU:1."]


@pytest.mark.parametrize(
    ("hardware", "name", "place", "hosts", "line"),
    [
        (
            hardware_config.HardwareConfig(tpu="local"),
            "local",
            {"zone": None, "project": None},
            1,
            "8 replicas on the cores of a TPU with 1 host.",
        ),
        (
            hardware_config.HardwareConfig(use_tpu=True),
            "local",
            {"zone": None, "project": None},
            1,
            "8 replicas on the cores of a TPU with 1 host.",
        ),
        (
            hardware_config.HardwareConfig(
                tpu="pod", tpu_zone="z", gcp_project="p"
            ),
            "pod",
            {"zone": "z", "project": "p"},
            4,
            "32 replicas on the cores of a TPU with 4 hosts.",
        ),
    ],
)
def test_a_tpu_is_found_connected_and_initialized_in_that_order(
    record, calls, logged, hardware, name, place, hosts, line
):
    cores = [
        f"/job:worker/replica:0/task:{host}/device:TPU:{core}"
        for host in range(hosts)
        for core in range(8)
    ]
    created = FakeStrategy(cores)
    record(tf.distribute.cluster_resolver, "TPUClusterResolver", "resolver")
    record(tf.config, "experimental_connect_to_cluster")
    record(tf.tpu.experimental, "initialize_tpu_system")
    record(tf.distribute, "TPUStrategy", created)
    assert strategy.create_strategy(hardware) is created
    assert calls == [
        ("TPUClusterResolver", (name,), place),
        ("experimental_connect_to_cluster", ("resolver",), {}),
        ("initialize_tpu_system", ("resolver",), {}),
        ("TPUStrategy", ("resolver",), {}),
    ]
    assert logged == [line]


def add_device_file(machine, monkeypatch):
    (machine / "_DEVICE_FILES" / "accel0").touch()


def add_chip(machine, monkeypatch):
    add_pci_device(machine, "3", "0x1ae0", "0x0063")


def name_tpu(machine, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "pod")


TPUS = [(add_device_file, "local"), (add_chip, "local"), (name_tpu, "pod")]


@pytest.fixture
def connected(record):
    """Returns a strategy of the cores of any TPU that is asked for."""
    created = FakeStrategy([f"{LOCAL}TPU:{core}" for core in range(8)])
    record(tf.distribute.cluster_resolver, "TPUClusterResolver", "resolver")
    record(tf.config, "experimental_connect_to_cluster")
    record(tf.tpu.experimental, "initialize_tpu_system")
    record(tf.distribute, "TPUStrategy", created)
    return created


@pytest.mark.parametrize(("add", "name"), TPUS)
def test_a_tpu_that_is_there_is_used_without_flags(
    machine, monkeypatch, connected, calls, add, name
):
    add(machine, monkeypatch)
    created = strategy.create_strategy(hardware_config.HardwareConfig())
    assert created is connected
    assert calls[0][:2] == ("TPUClusterResolver", (name,))


@pytest.mark.parametrize("add", [add for add, _ in TPUS])
def test_flags_win_over_a_tpu_that_is_there(
    machine, monkeypatch, connected, calls, add
):
    add(machine, monkeypatch)
    for hardware, kind in (
        ({"use_tpu": False}, tf.distribute.OneDeviceStrategy),
        ({"num_virtual_devices": 2}, tf.distribute.MirroredStrategy),
    ):
        created = strategy.create_strategy(
            hardware_config.HardwareConfig(**hardware)
        )
        assert isinstance(created, kind)
    assert not calls
    strategy.create_strategy(hardware_config.HardwareConfig(tpu="other"))
    assert calls[0][:2] == ("TPUClusterResolver", ("other",))


def test_a_tpu_found_that_does_not_answer_can_be_left_alone(machine):
    add_device_file(machine, None)
    with pytest.raises(
        ValueError, match=r"--tpu='local', which .* \(--use_tpu=false leaves"
    ):
        strategy.create_strategy(hardware_config.HardwareConfig())


def test_use_tpu_false_leaves_a_named_tpu_alone():
    hardware = hardware_config.HardwareConfig(use_tpu=False, tpu="local")
    created = strategy.create_strategy(hardware)
    assert isinstance(created, tf.distribute.OneDeviceStrategy)


def test_a_tpu_that_does_not_answer_is_named():
    hardware = hardware_config.HardwareConfig(use_tpu=True)
    with pytest.raises(ValueError, match="--tpu='local'"):
        strategy.create_strategy(hardware)


@pytest.fixture
def several(monkeypatch, record, calls):
    """Returns the options that a strategy of several workers was given."""
    given = []
    # The watchdog needs a real file for its output.
    record(strategy.faulthandler, "dump_traceback_later")
    record(strategy.faulthandler, "cancel_dump_traceback_later")

    class Several(FakeStrategy):
        def __init__(self, communication_options):
            given.append(communication_options)
            calls.append(("MultiWorkerMirroredStrategy", (), {}))
            resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
            super().__init__(
                [f"/job:worker/task:{resolver.task_id}/device:CPU:0"],
                replicas=2,
                resolver=resolver,
            )

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Several)
    return given


def test_workers_of_tf_config_share_a_strategy_over_their_cpus(
    monkeypatch, several, logged
):
    name_workers(monkeypatch, index=1)
    created = strategy.create_strategy(hardware_config.HardwareConfig())
    assert created.num_replicas_in_sync == 2
    kinds = tf.distribute.experimental.CommunicationImplementation
    assert [options.implementation for options in several] == [kinds.RING]
    assert logged == [
        "Waiting for all 2 workers of TF_CONFIG, 15 minutes at most.",
        "2 replicas on 2 workers; worker 1, this one, has CPU:0.",
    ]


def test_workers_do_not_wait_for_each_other_for_ever(
    monkeypatch, several, calls
):
    name_workers(monkeypatch)
    strategy.create_strategy(hardware_config.HardwareConfig())
    assert calls == [
        ("dump_traceback_later", (900,), {"exit": True}),
        ("MultiWorkerMirroredStrategy", (), {}),
        ("cancel_dump_traceback_later", (), {}),
    ]


def test_workers_with_gpus_find_them_before_any_device_exists(
    monkeypatch, two_gpus, calls, several
):
    name_workers(monkeypatch)
    strategy.create_strategy(hardware_config.HardwareConfig())
    kinds = tf.distribute.experimental.CommunicationImplementation
    assert [options.implementation for options in several] == [kinds.AUTO]
    # Listing logical devices would make them, and that before the workers meet.
    assert [name for name, _, _ in calls] == [
        "dump_traceback_later",
        "list_physical_devices",
        "set_memory_growth",
        "set_memory_growth",
        "MultiWorkerMirroredStrategy",
        "cancel_dump_traceback_later",
    ]


def test_one_worker_alone_is_an_ordinary_machine(monkeypatch):
    name_workers(monkeypatch, worker=["localhost:0"])
    created = strategy.create_strategy(hardware_config.HardwareConfig())
    assert isinstance(created, tf.distribute.OneDeviceStrategy)


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ({"tpu": "local"}, "A TPU's hosts .* TF_CONFIG with 2 workers"),
        ({"num_virtual_devices": 2}, "--num_virtual_devices .* 2 workers"),
    ],
)
def test_workers_share_neither_a_tpu_nor_virtual_devices(
    monkeypatch, hardware, message
):
    name_workers(monkeypatch)
    with pytest.raises(ValueError, match=message):
        strategy.create_strategy(hardware_config.HardwareConfig(**hardware))
