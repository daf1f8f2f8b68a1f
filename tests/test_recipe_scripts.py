"""What the scripts print with --dry_run, and do before they run a command."""

import base64
import contextlib
import functools
import hashlib
import http.server
import importlib
import shlex
import shutil
import subprocess
import threading

import pytest
from absl import flags

from tests.test_scripts import (
    ROOT,
    SCRIPTS,
    SOURCED,
    bash,
    echoing_python,
    fake_python,
)

pytestmark = pytest.mark.slow

_LABELED = "--label_data_dir=imagenet"
_UNLABELED = "--unlabel_data_dir=gs://mine/jft"
_SEMICOLONS = "--unlabel_data_dir=one;/two"
_RUN = "--model_dir=runs/it"
_STUDENT = f"{_LABELED} {_UNLABELED} {_RUN}"
_TPU = "--name=it --zone=here-a"
_MACHINE = "--accelerator_type=v3-2048 --version=tpu-vm-tf-2.15.0-pod"
_TRAIN = (
    "-- noisy_student.main --mode=train --label_data_dir='gs://a b' --tpu=it"
)
_SIZES = ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7")
_RELEASED = (*_SIZES, "l2_475", "l2")
# Calls of each script, as a user would type them.
CALLS = {
    "quickstart.sh": ["", "--seed=3 --work_dir=it", "--long", "--smoke"],
    "quickstart_seeds.sh": ["", "--long"],
    "test.sh": ["", "--fast -x"],
    "beam/dataflow.sh": ["--input_dir=gs://in --eval_dir=gs://out"],
    "cifar10/whole_chain.sh": [
        f"--image_dir=images {extra}" for extra in ("", "--beam", "--smoke")
    ],
    "cifar10/reproduce.sh": [
        "",
        "--data_dir=images --work_dir=it --all -- --dry_run",
        "--data_dir=images --smoke",
    ],
    "imagenet/train_teacher.sh": [
        f"{_LABELED} {_RUN} --model={model}" for model in _RELEASED
    ],
    "imagenet/train_student.sh": [
        *(f"{_STUDENT} --model={model}" for model in _SIZES),
        f"{_LABELED} '{_SEMICOLONS}' {_RUN} --model b0 -- --train_epochs=2",
    ],
    "imagenet/train_l2.sh": [f"{_STUDENT} --round={n}" for n in (1, 2, 3)],
    "imagenet/whole_chain.sh": [
        *(
            f"--chain={name} {_LABELED} {_UNLABELED} --work_dir=it"
            for name in (*_SIZES, "l2")
        ),
        f"--chain=l2 {_LABELED} {_UNLABELED} --work_dir=it -- --dry_run",
    ],
    "imagenet/fixres.sh": [f"--init_model_path=l2 {_LABELED} {_RUN}"],
    "imagenet/predict.sh": [
        f"--checkpoint=runs/b0 {_UNLABELED} --output_dir=labels",
        f"--checkpoint=runs/b0 {_UNLABELED} --output_dir=labels "
        "--file_prefix=extra -- --prediction_storage=topk",
    ],
    "imagenet/filter.sh": [
        f"{_UNLABELED} --prediction_dir=labels --output_dir=kept",
    ],
    "imagenet/reassign.sh": [
        f"--checkpoint=runs/b7 {_UNLABELED} --output_dir=again",
    ],
    "imagenet/eval.sh": [
        f"--checkpoint=runs/b7 {_LABELED}",
        "--checkpoint=b0.tar.gz --label_data_dir=tfds:imagenet2012",
    ],
    "robustness/cifar10.sh": [
        "--data_dir=images --work_dir=it --output_dir=out --seeds='0 3'",
    ],
    **{
        f"robustness/{name}.sh": [
            f"--checkpoint=l2.tar.gz --label_data_dir={data} --output_dir=out"
            " -- --model_name=efficientnet-l2"
            for data in sources
        ]
        for name, sources in {
            "imagenet_a": ("imagenet-a", "tfds:imagenet_a"),
            "imagenet_c": ("imagenet-c", "tfds:imagenet2012_corrupted"),
            "imagenet_p": ("imagenet-p",),
            "adversarial": ("imagenet/val",),
        }.items()
    },
    "svhn/whole_chain.sh": [
        f"--raw_dir=raw {extra}"
        for extra in ("", "--online", "--smoke", "--teacher=ckpt/model.ckpt")
    ],
    "yfcc100m/prepare.sh": [
        "--metadata='yfcc/*.bz2' --images=yfcc/data "
        "--eval_dir='imagenet/validation-*' --work_dir=it",
    ],
    "jft/prepare.sh": [
        "--input='jft/*.tar' --eval_dir='imagenet/validation-*' --work_dir=it",
    ],
    "released_checkpoints/download.sh": [f"--model={m}" for m in _RELEASED],
    "released_checkpoints/evaluate.sh": [
        f"--model={model} {_LABELED}" for model in _RELEASED
    ],
    "tpu_vm/create.sh": [
        f"{_TPU} {_MACHINE}",
        f"{_TPU} {_MACHINE} --project=mine --spot",
    ],
    "tpu_vm/setup.sh": [_TPU],
    "tpu_vm/run.sh": [
        f"{_TPU} --version=tpu-vm-tf-2.15.0{image} {_TRAIN}"
        for image in ("", "-pod", "-pjrt", "-pod-pjrt")
    ],
    "tpu_vm/resume.sh": [f"{_TPU} {_MACHINE} --project=mine --spot {_TRAIN}"],
    "tpu_vm/delete.sh": [_TPU],
}
COMMANDS = [
    str(path.relative_to(ROOT / "scripts"))
    for path in SCRIPTS
    if path not in SOURCED and path.parts[-2] != ".ci"
]
_EVERY_CALL = [(name, call) for name in CALLS for call in CALLS[name]]
every_call = pytest.mark.parametrize(("name", "call"), _EVERY_CALL)

# The flags of each `gcloud compute tpus tpu-vm` command that may be used.
# Source: cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm/<command>;
# every command takes gcloud's own flags besides.
_GCLOUD_WIDE = {"--project", "--format", "--quiet"}
_GCLOUD = {
    "create": {"--zone", "--accelerator-type", "--version", "--spot"},
    "delete": {"--zone"},
    "describe": {"--zone"},
    "scp": {"--zone", "--worker", "--recurse"},
    "ssh": {"--zone", "--worker", "--command"},
}


def call_script(name, call, cwd=None, **environment):
    """Runs a script as a user would in folder `cwd`."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PROJECT": "mine",
        "BUCKET": "gs://mine/beam",
        **environment,
    }
    command = f"'{ROOT}/scripts/{name}' {call}"
    return bash(f"cd '{cwd or ROOT}' && {command}", **environment)


def dry_run(name, call, cwd=None):
    """Returns the commands that a script prints, each as a list of words."""
    # `--dry_run` comes first, as what follows `--` is for the command.
    result = call_script(name, f"--dry_run {call}", cwd, PYTHON="/nonexistent")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    lines = result.stdout.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    return [words for words in commands if words]


def check_module(module, arguments):
    """Parses a command line of this project with the flags of its module."""
    from noisy_student import flags as flags_lib

    command = importlib.import_module(module)
    if hasattr(command, "__path__"):
        command = importlib.import_module(f"{module}.__main__")
    is_main = module == "noisy_student.main"
    flag_values = flags.FlagValues()
    (flags_lib if is_main else command).define_flags(flag_values)
    rest = flag_values([module, *arguments])[1:]
    if is_main:
        flags_lib.config_from_flags(flag_values)
    if module == "noisy_student.self_training":
        command.config_from_flags(flag_values)
    # What is no flag is for Beam.
    assert rest == [] or module == "noisy_student.beam_pipeline"


def check_gcloud(words):
    """Checks a command line of the Google Cloud CLI, and what runs remotely."""
    assert words[:3] == ["compute", "tpus", "tpu-vm"]
    command, *arguments = words[3:]
    named = [word for word in arguments if word.startswith("-")]
    assert {word.split("=")[0] for word in named} <= (
        _GCLOUD[command] | _GCLOUD_WIDE
    )
    assert len(arguments) - len(named) == (2 if command == "scp" else 1)
    for word in named:
        if word.startswith("--command=nohup"):
            remote = shlex.split(word[len("--command=") :])
            start = remote.index("-m") + 1
            end = next(i for i, w in enumerate(remote) if w.startswith(">>"))
            check_module(remote[start], remote[start + 1 : end])


def check_command(words):
    """Checks that a program knows the flags it is called with."""
    program, *arguments = words
    if program == "python":
        assert arguments[0] == "-m"
        if arguments[1] != "pytest":
            check_module(arguments[1], arguments[2:])
    elif program == "gcloud":
        check_gcloud(arguments)
    elif program == "curl":
        known = subprocess.run(
            [shutil.which("curl"), "--help", "all"],
            capture_output=True,
            text=True,
        ).stdout.split()
        assert {w for w in arguments if w.startswith("-")} <= set(known)
    else:
        assert [program, arguments[2]] == ["git", "archive"]


# What the calls name and scripts look for before they begin.
_PLACES = (
    "images/train/it",
    "images/test/it",
    "raw/it",
    "jft/0.tar",
    "yfcc/0.bz2",
    "yfcc/data/it",
    "imagenet/validation-0",
    "ckpt/model.ckpt.index",
    *(
        f"it/seed_{seed}/{arm}/model/it"
        for seed in (0, 3)
        for arm in ("teacher", "noisy_student")
    ),
)


def make_places(folder):
    """Makes an empty file at each of them."""
    for path in _PLACES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def test_every_script_is_called_by_these_tests():
    assert sorted(CALLS) == sorted(COMMANDS)


@every_call
def test_each_command_that_is_printed_has_flags_that_exist(
    name, call, tmp_path
):
    commands = dry_run(name, call, tmp_path)
    assert commands
    for words in commands:
        check_command(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_script_explains_itself(name):
    result = call_script(name, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage:")
    assert "--dry_run" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_argument_is_named(name):
    if name in ("test.sh", "beam/dataflow.sh"):
        pytest.skip("passes arguments on")
    for argument in ("--no_such_thing", "word", "--no_such_thing=1"):
        result = call_script(name, argument)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            f"error: Unknown argument '{argument}'; see {ROOT}/scripts/{name} "
            "--help.\n"
        )


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("imagenet/eval.sh", "", "--checkpoint is needed"),
        ("imagenet/eval.sh", "--checkpoint", "--checkpoint needs a value"),
        ("imagenet/eval.sh", "--checkpoint ''", "--checkpoint needs a value"),
        ("imagenet/eval.sh", "--checkpoint=", "--checkpoint needs a value"),
        (
            "imagenet/train_student.sh",
            f"{_STUDENT} --model=l2",
            "--model must be one of: b0 b1 b2 b3 b4 b5 b6 b7. Received: 'l2'",
        ),
        ("imagenet/train_l2.sh", f"{_STUDENT} --round=4", "--round must be"),
        ("tpu_vm/run.sh", f"{_TPU} --version=it", "Which module?"),
        ("svhn/whole_chain.sh", "--raw_dir=it --", "Unknown argument '--'"),
    ],
)
def test_what_is_missing_or_wrong_is_named(name, call, message):
    result = call_script(name, call)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        (
            "jft/prepare.sh",
            "--input=images/* --eval_dir=eval-* --work_dir=it",
            "--eval_dir: '{place}/eval-*' is not there.",
        ),
        (
            "svhn/whole_chain.sh",
            "--raw_dir=images --teacher=ckpt/typo",
            "--teacher: '{place}/ckpt/typo' is not there.",
        ),
        (
            "robustness/cifar10.sh",
            "--data_dir=images --work_dir=it --output_dir=out --seeds=zero",
            "--work_dir, --seeds: no network in '{place}/it/seed_zero/",
        ),
        (
            "cifar10/reproduce.sh",
            "--data_dir=images --report_path=page.html",
            "--report_path must end in .md.",
        ),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_run(
    name, call, message, tmp_path
):
    make_places(tmp_path)
    result = call_script(name, call, tmp_path, **echoing_python(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message.format(place=tmp_path)}")


def test_a_home_directory_is_found_behind_an_equals_sign():
    call = "--checkpoint='~/it' --label_data_dir=it"
    (words,) = dry_run("imagenet/eval.sh", call)
    assert "--checkpoint=/nonexistent/it" in words  # HOME of `call_script`.


@every_call
def test_what_is_printed_is_what_is_run(name, call, tmp_path):
    printed = dry_run(name, call, tmp_path)
    if {words[0] for words in printed} != {"python"} or name == (
        "quickstart_seeds.sh"
    ):
        pytest.skip("runs other programs")
    make_places(tmp_path)
    result = call_script(name, call, tmp_path, **echoing_python(tmp_path))
    assert result.returncode == 0, result.stderr
    # The stand-in prints the words without the quotes that they need.
    assert result.stdout.splitlines() == [
        " ".join(words[2:]) for words in printed
    ]


def test_paths_are_taken_from_where_the_user_is(tmp_path):
    (words,) = dry_run(
        "imagenet/train_student.sh",
        f"--label_data_dir=tfds:it '{_SEMICOLONS}' {_RUN} --model=b0",
        tmp_path,
    )
    assert {
        "--label_data_dir=tfds:it",
        f"--unlabel_data_dir={tmp_path}/one;/two",
        f"--model_dir={tmp_path}/runs/it",
    } < set(words)


@pytest.mark.parametrize(("number", "ratio"), [(1, 14.0), (2, 14.0), (3, 28.0)])
def test_the_rounds_of_l2_have_the_papers_ratios(number, ratio):
    from noisy_student import flags as flags_lib

    (words,) = dry_run("imagenet/train_l2.sh", f"{_STUDENT} --round={number}")
    flag_values = flags.FlagValues()
    flags_lib.define_flags(flag_values)
    flag_values(words[2:])
    train = flags_lib.config_from_flags(flag_values).train
    assert train.model.model_name == "efficientnet-l2"
    assert train.step.pseudo_labels.unlabeled_ratio == ratio


@pytest.mark.parametrize(
    ("image", "variables"),
    [
        ("", ""),
        ("-pod", "TPU_LOAD_LIBRARY=0"),
        ("-pod-pjrt", "TPU_LOAD_LIBRARY=0"),
        ("-pjrt", "NEXT_PLUGGABLE_DEVICE_USE_C_API=true"),
    ],
)
def test_an_image_gets_the_variables_it_needs(image, variables):
    call = f"{_TPU} --version=tpu-vm-tf-2.15.0{image} {_TRAIN}"
    ((*_, command),) = dry_run("tpu_vm/run.sh", call)
    assert command.startswith(f"--command=nohup env {variables}")


# Prints what it is asked to do; a description says $STATE, or fails with
# $ERROR, and a list of logs says $LOG.
_FAKE_GCLOUD = """#!/bin/bash
if [[ $4 == describe ]]; then
  echo "$STATE"
  [[ -z $ERROR ]] || { echo "$ERROR" >&2; exit 1; }
elif [[ ${*: -1} == *"ls noisy_student.log"* ]]; then
  echo "$LOG"
else
  echo "$4 ${*: -1}"
fi
"""
_START = [
    "scp --worker=all",
    "ssh --command=python3 -m pip",
    "ssh --command=nohup env",
]
_ANEW = ["create --spot", *_START]


def call_resume(tmp_path, **environment):
    """Calls the script with a gcloud that says what the environment says."""
    for name, text in (("gcloud", _FAKE_GCLOUD), ("git", "#!/bin/bash\n")):
        fake_python(tmp_path, name, "", 0)
        (tmp_path / name).write_text(text)
    (call,) = CALLS["tpu_vm/resume.sh"]
    return call_script(
        "tpu_vm/resume.sh",
        call,
        PATH=f"{tmp_path}:/usr/bin:/bin",
        **environment,
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {"STATE": "READY", "LOG": "noisy_student.log"},
            ["it is READY: nothing to do."],
        ),
        # The call before failed between making it and starting the module.
        ({"STATE": "READY", "LOG": "none"}, _START),
        ({"STATE": "CREATING"}, ["it is CREATING: nothing to do."]),
        ({"STATE": "PREEMPTED"}, ["delete --quiet", *_ANEW]),
        ({"ERROR": "NOT_FOUND: nodes/it was not found"}, _ANEW),
    ],
)
def test_a_tpu_vm_is_made_anew_only_where_it_was_taken_away(
    tmp_path, answers, expected
):
    result = call_resume(tmp_path, **answers)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(map(str.startswith, lines, expected)), lines


def test_a_tpu_vm_that_cannot_be_asked_for_is_not_made(tmp_path):
    result = call_resume(tmp_path, ERROR="PERMISSION_DENIED: you may not")
    assert (result.returncode, result.stdout) == (1, "")
    assert "PERMISSION_DENIED: you may not" in result.stderr


_CONTENT = b"weights"
_DIGEST = base64.b64encode(hashlib.md5(_CONTENT).digest()).decode()


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves `_CONTENT` with the further headers it is made with."""

    def __init__(self, *args, headers, **kwargs):
        self.further = headers
        super().__init__(*args, **kwargs)

    def do_GET(self):  # noqa: N802
        """Answers every request alike."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(_CONTENT)))
        for name, value in self.further:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(_CONTENT)

    def log_message(self, *args):
        """Says nothing."""


@contextlib.contextmanager
def served(headers):
    """Yields the URL of a server on this machine."""
    handler = functools.partial(_Server, headers=headers)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")),
    reason="no curl or openssl here",
)
@pytest.mark.parametrize(
    ("headers", "message", "kept"),
    [
        ([("x-goog-hash", f"crc32c=AAAAAA==,md5={_DIGEST}")], "7 bytes", True),
        (
            [("X-Goog-Hash", "crc32c=AAAAAA=="), ("x-goog-hash", "md5=wrong")],
            "the MD5 digest does not fit",
            False,
        ),
        ([("x-goog-hash", "crc32c=AAAAAA==")], "no MD5 digest", True),
    ],
)
def test_a_download_is_held_to_what_the_server_publishes(
    tmp_path, headers, message, kept
):
    with served(headers) as url:
        result = call_script(
            "released_checkpoints/download.sh",
            f"--model=b0 --output_dir='{tmp_path}/it' --url={url}",
        )
    assert (result.returncode == 0) == kept
    assert message in result.stdout + result.stderr
    name = "noisy_student_efficientnet-b0.tar.gz"
    found = [path.name for path in (tmp_path / "it").iterdir()]
    assert found == ([name] if kept else [])
