"""Rules of the code base that no single module's test would notice."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("efficientnet", "autoaugment", "data_prep", "noisy_student")
ALLOWED = {
    "efficientnet": {"tensorflow"},
    "autoaugment": {"tensorflow"},
    "data_prep": {
        "PIL",
        "absl",
        "apache_beam",
        "google",  # protobuf
        "matplotlib",
        "numpy",
        "scipy",
        "sklearn",
        "tensorflow",
        "tensorflow_datasets",
    },
    "noisy_student": {
        "PIL",
        "absl",
        "apache_beam",
        "autoaugment",
        "cv2",
        "data_prep",
        "efficientnet",
        "numpy",
        "scipy",
        "tensorflow",
    },
}
MODULES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)


def imported(path):
    """Yields the top-level names a module imports, at any depth of it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


HAS_BEAM = importlib.util.find_spec("apache_beam") is not None


def needs_beam(path):
    """Returns whether a module can be imported only with its extra `beam`."""
    tree = ast.parse((ROOT / path).read_text())
    imports = [ast.unparse(node) for node in tree.body]
    return any(line.startswith("import apache_beam") for line in imports)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    package = path.parts[0]
    allowed = ALLOWED[package] | {package} | set(sys.stdlib_module_names)
    assert set(imported(path)) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_library_code_neither_prints_nor_asserts_nor_reads_flags(path):
    tree = ast.parse((ROOT / path).read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "FLAGS"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr == "FLAGS":
            assert path.name == "command_line.py", f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except, line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_stay_small(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 430
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and "flags" not in node.name:
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                length = body[-1].end_lineno - body[0].lineno + 1
                assert length <= 55, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_public_functions_and_classes_have_docstrings(path):
    tree = ast.parse((ROOT / path).read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            public = not node.name.startswith("_")
            assert not public or ast.get_docstring(node), node.name


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_tensorflow_and_defines_no_flag(package):
    code = (
        "import sys\n"
        "from absl import flags\n"
        "before = set(flags.FLAGS)\n"
        f"import {package}\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert set(flags.FLAGS) == before\n"
        "assert not flags.FLAGS.is_parsed()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_importing_everything_touches_no_device():
    names = [
        ".".join(path.with_suffix("").parts)
        for path in MODULES
        if path.name != "__init__.py" and (HAS_BEAM or not needs_beam(path))
    ]
    code = (
        "import importlib\n"
        "import efficientnet; efficientnet.require_keras_2()\n"
        f"[importlib.import_module(name) for name in {names}]\n"
        "from tensorflow.python.eager import context\n"
        "assert context.context()._context_handle is None\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


FORBIDDEN = re.compile(
    r"/root/|/work/|/home/\w|pyenv/versions/\d|golden README|subagent|"
    r"\bissue \d|\bTODO\b|\bFIXME\b",
    re.IGNORECASE,
)


def tracked_text_files():
    """Yields the text files of the project, golden data aside."""
    skipped = {"golden", "runs", "data", "build", "dist", "__pycache__"}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p.startswith(".") and p != ".ci" for p in parts)
        if hidden or skipped & set(parts) or not path.is_file():
            continue
        if path.suffix in (".py", ".md", ".sh", ".toml", "") and (
            path.name != "test_rules.py"
        ):
            yield path


@pytest.mark.slow
def test_the_project_speaks_of_itself_alone():
    for path in tracked_text_files():
        match = FORBIDDEN.search(path.read_text())
        assert match is None, f"{path.relative_to(ROOT)}: {match}"


def test_golden_data_stays_small():
    sizes = [
        path.stat().st_size
        for path in (ROOT / "tests" / "golden").iterdir()
        if path.is_file()
    ]
    assert max(sizes) <= 4_000_000
    assert sum(sizes) <= 15_000_000


README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)


@pytest.mark.parametrize("target", sorted(set(LINKS)))
def test_readme_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def readme_commands():
    """Returns the commands of the README's shell blocks, in order.

    A line that ends in a backslash goes on; what follows `#` is a comment.
    """
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line]


# The tests cannot run themselves, nor in an environment of their own.
LEFT_OUT = ("scripts/test.sh", "source .venv/bin/activate", "curl ")
# What makes a command of minutes one of seconds.
SHORTER = {
    "scripts/quickstart.sh": "--smoke",
    "python -m noisy_student.self_training": (
        "--rounds=1 --train_steps=4 --warmup_epochs=0 "
        "--width_coefficient=0.1 --depth_coefficient=0.1"
    ),
    "python -m noisy_student.main --mode=train": (
        "--train_steps=4 --warmup_epochs=1"
    ),
    "python -m noisy_student.main --mode=export": "--export_samples=2",
    "python -m noisy_student.robustness.adversarial": (
        "--num_images=2 --pgd_steps=2"
    ),
}


def write_photos(folder):
    """Writes a few photos into the folders that the README names."""
    rng = np.random.default_rng(0)
    for name in ("labeled/cats", "labeled/dogs", "unlabeled"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
            image = Image.fromarray(pixels)
            image.save(folder / name / f"{number}.jpg")


def write_released_checkpoint(folder):
    """Writes what the README downloads: an archive, here of fresh weights."""
    import efficientnet

    model = efficientnet.build_model("efficientnet-b0")
    name = "noisy_student_efficientnet-b0"
    efficientnet.save_tf1_checkpoint(model, str(folder / name / "model.ckpt"))
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(folder / name, arcname=name)


def write_imagenet(folder):
    """Writes a validation set: a folder of two of the thousand classes."""
    pixels = np.full((40, 60, 3), 128, np.uint8)
    for synset in ("n01440764", "n15075141"):
        (folder / synset).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / synset / "0.jpg")


@pytest.mark.long
def test_every_command_of_the_readme_runs(tmp_path):
    commands = [c for c in readme_commands() if not c.startswith(LEFT_OUT)]
    assert any(c.startswith("scripts/quickstart.sh") for c in commands)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    python = bin_dir / "python"
    # No link: a virtual environment is found by where its Python lies.
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "NOISY_STUDENT_VENV": "none",
        "PYTHONPATH": str(ROOT),
    }
    # A checkout of its own, so that nothing is written into this one.
    for name in (*PACKAGES, "scripts", "setup.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_photos(tmp_path / "photos")
    write_released_checkpoint(tmp_path)
    write_imagenet(tmp_path / "imagenet" / "validation")
    for command in commands:
        for start, extra in SHORTER.items():
            if command.startswith(start):
                command = f"{command} {extra}"
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
