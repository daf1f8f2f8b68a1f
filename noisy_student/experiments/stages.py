"""From an arm and a seed to the commands that make it, each a stage.

A stage is one public command with its flags. Paths in them begin with
`{work_dir}` or `{data_dir}`, so that the commands of two machines are equal.
What arms share, images, teachers and labels, is one stage with one name.
"""

import dataclasses
import functools
import importlib
import shlex
import sys
from typing import Optional

from absl import flags

from noisy_student import chains, fixres, image_places
from noisy_student import config as config_lib
from noisy_student import flags as flags_lib
from noisy_student.experiments import arms
from noisy_student.experiments import protocol as protocol_lib
from noisy_student.experiments.arm import LOOK, TRAIN, TUNE, Arm
from noisy_student.flag_declarations import NO_EVALUATION_BETWEEN

DEV, TEST = "dev", "test"
_IMAGES = "{work_dir}/images"
_NUM_CLASSES = 10
_TASK = "cifar10"
_EVAL_BATCH_SIZE = 500


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: Tells it apart, such as "seed_0/teacher/train".
        module: What `python -m` runs.
        flags: {flag: value}.
        arm: `arm.Arm` whose network it makes or looks at; None of others.
    """

    name: str
    module: str
    flags: dict
    arm: Optional[Arm] = None

    def words(self, **directories):
        """Returns the arguments behind `python`.

        Args:
            **directories: `work_dir` and `data_dir`; without them their places
                are left in.
        """
        words = ["-m", self.module]
        for name, value in self.flags.items():
            text = _format(value)
            for place, directory in directories.items():
                text = text.replace("{" + place + "}", directory)
            words.append(f"--{name}={text}")
        return words

    def command(self, **directories):
        """Returns the command for a shell, as `words`."""
        words = self.words(**directories)
        return "python " + " ".join(map(shlex.quote, words))

    def argv(self, **directories):
        """Returns the command for a new process, as `words`."""
        return [sys.executable, *self.words(**directories)]

    def settings(self):
        """Returns all that it depends on as JSON values, presets included."""
        config = self.train_config()
        return {
            "command": self.command(),
            "config": config and config_lib.to_dict(config),
        }

    def train_config(self, num_labeled=None):
        """Returns the `TrainConfig` of a stage that trains, else None.

        Args:
            num_labeled: Number of labeled images. With it the steps of FixRes
                are those of the tail that it trains, without it those of the
                whole schedule.

        Raises:
            ValueError: If a flag or its value does not exist.
        """
        parsed = self.parse()
        if self.flags.get("mode") not in (TRAIN, TUNE):
            return None
        run = flags_lib.config_from_flags(parsed)
        if num_labeled is None or run.fixres is None:
            return run.train
        train = dataclasses.replace(run.train, num_train_images=num_labeled)
        return fixres.with_tail(train, run.fixres)

    def parse(self):
        """Returns the parsed `FlagValues`; ValueError as `train_config`."""
        flag_values = flags.FlagValues()
        module = importlib.import_module(self.module)
        # Those of `noisy_student.main` have a module of their own.
        define_flags = getattr(module, "define_flags", flags_lib.define_flags)
        define_flags(flag_values)
        try:
            flag_values([self.module, *self.words()[2:]])
        except flags.Error as error:
            raise ValueError(f"{self.name}: {error}") from error
        return flag_values


def _format(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return str(value)


@dataclasses.dataclass(frozen=True)
class Planner:
    """Which stages make an arm.

    Attributes:
        data_dir: A folder with the image folders `train` and `test`, or
            `tfds:NAME` of a TensorFlow data set.
        protocol: `protocol.Protocol`.
    """

    data_dir: str
    protocol: protocol_lib.Protocol

    def plan(self, arm, seed):
        """Returns the list of `Stage`s that train an arm, in their order."""
        # Those of one name are one stage, that arms share.
        return list({s.name: s for s in self._stages(arm, seed)}.values())

    def _stages(self, arm, seed):
        yield self._images("train")
        yield self._division(arm, seed)
        for name in (arm.teacher, arm.start):
            if name is not None:
                yield from self._stages(arms.ARMS[name], seed)
        if arm.teacher is not None:
            teacher = arms.ARMS[arm.teacher]
            yield self._labels(teacher, seed)
            yield self._selection(teacher, arm.selection, seed)
        yield self.train(arm, seed)

    def test_plan(self, arm, seed):
        """Returns the list of `Stage`s that evaluate it on test images."""
        stages = [self._images(TEST)]
        if protocol_lib.DATA[arm.data]:
            stages.append(self._test_division(arm))
        return [*stages, self._evaluation(arm, seed)]

    def _images(self, split):
        flags_of_source = {"input_dir": f"{{data_dir}}/{split}"}
        module = "data_prep.image_folder"
        if image_places.is_tfds(self.data_dir):
            flags_of_source = {
                "name": image_places.tfds_name(self.data_dir),
                "prepare": True,
            }
            module = "data_prep.tfds_dataset"
        return _stage(
            f"images/{split}",
            module,
            **flags_of_source,
            split=split,
            output_dir=f"{_IMAGES}/{split}",
            num_shards=self.protocol.num_shards,
        )

    def _division(self, arm, seed):
        return _stage(
            f"{_division_dir(arm, seed)}/divide",
            "data_prep.divide",
            input_dir=f"{_IMAGES}/train",
            output_dir=f"{{work_dir}}/{_division_dir(arm, seed)}",
            num_labeled=self.protocol.num_labeled,
            dev_size=self.protocol.dev_size,
            seed=seed,
            **protocol_lib.DATA[arm.data],
        )

    def _test_division(self, arm):
        return _stage(
            f"images/{arm.data}/divide",
            "data_prep.divide",
            input_dir=f"{_IMAGES}/{TEST}",
            split=TEST,
            labeled_split=TEST,
            output_dir=f"{_IMAGES}/{arm.data}",
            **protocol_lib.DATA[arm.data],
        )

    def train(self, arm, seed):
        """Returns the `Stage` that trains an arm, or looks at it."""
        if arm.mode == LOOK:
            return self._look(arm, seed)
        settings = {"preset": arm.preset, "seed": _train_seed(arm, seed)}
        if arm.teacher is not None:
            folder = _selection_dir(arm.teacher, arm.selection, seed)
            settings["unlabel_data_dir"] = f"{{work_dir}}/{folder}/data"
        if arm.online:
            settings["teacher_model_name"] = "efficientnet-b0"
            settings["teacher_model_path"] = _model_dir(arm.teacher, seed)
        if arm.start is not None:
            settings["init_model"] = True
            settings["init_model_path"] = _model_dir(arm.start, seed)
        overrides = self.protocol.train_flags
        if arm.mode == TUNE:
            overrides = self.protocol.tune_flags
        return _stage(
            f"seed_{seed}/{arm.name}/train",
            "noisy_student.main",
            arm,
            mode=arm.mode,
            **settings,
            label_data_dir=f"{{work_dir}}/{_division_dir(arm, seed)}",
            eval_split=DEV,
            model_dir=_model_dir(arm.name, seed),
            steps_per_eval=NO_EVALUATION_BETWEEN,
            **{**arm.flags, **overrides},
        )

    def _look(self, arm, seed):
        return _stage(
            f"seed_{seed}/{arm.name}/{DEV}",
            "noisy_student.main",
            arm,
            mode=arm.mode,
            label_data_dir=f"{{work_dir}}/{_division_dir(arm, seed)}",
            eval_split=DEV,
            output_dir=f"{{work_dir}}/{look_dir(arm, seed)}",
            **_network(arm, seed),
        )

    def _labels(self, teacher, seed):
        return _stage(
            f"seed_{seed}/{teacher.name}/label",
            "noisy_student.main",
            mode="predict",
            checkpoint=_model_dir(teacher.name, seed),
            task_name=_TASK,
            unlabel_data_dir=f"{{work_dir}}/{_division_dir(teacher, seed)}",
            file_prefix="unlabeled",
            output_dir=_labels_dir(teacher, seed),
            eval_batch_size=_EVAL_BATCH_SIZE,
        )

    def _selection(self, teacher, selection, seed):
        folder = _selection_dir(teacher.name, selection, seed)
        return _stage(
            f"{folder}/filter",
            "data_prep.filter_unlabel",
            input_dir=f"{{work_dir}}/{_division_dir(teacher, seed)}",
            file_prefix="unlabeled",
            prediction_dir=_labels_dir(teacher, seed),
            output_dir=f"{{work_dir}}/{folder}",
            num_label_classes=_num_classes(teacher),
            **self.protocol.selections[selection],
        )

    def _evaluation(self, arm, seed):
        folder = arm.data if protocol_lib.DATA[arm.data] else TEST
        return _stage(
            f"seed_{seed}/{arm.name}/test",
            "noisy_student.main",
            mode=LOOK,
            label_data_dir=f"{_IMAGES}/{folder}",
            eval_split=TEST,
            output_dir=f"{{work_dir}}/{test_dir(arm, seed)}",
            **_network(arm, seed),
        )


def model_dir(arm, seed):
    """Returns the run directory of an arm, below the work directory."""
    return f"seed_{seed}/{arm.name}/model"


def look_dir(arm, seed):
    """Returns where its figures on `dev` go, if it is not trained."""
    return f"seed_{seed}/{arm.name}/{DEV}"


def test_dir(arm, seed):
    """Returns where its figures on test images go, likewise."""
    return f"seed_{seed}/{arm.name}/test"


def _model_dir(name, seed):
    return f"{{work_dir}}/{model_dir(arms.ARMS[name], seed)}"


def _network(arm, seed):
    """Returns the flags by which an evaluation finds an arm's network."""
    is_own = arm.mode != LOOK
    return {
        "checkpoint": _model_dir(arm.name if is_own else arm.start, seed),
        "task_name": _TASK,
        "eval_batch_size": _EVAL_BATCH_SIZE,
        **({} if is_own else arm.flags),
    }


def _labels_dir(teacher, seed):
    return f"{{work_dir}}/seed_{seed}/{teacher.name}/labels"


def _selection_dir(teacher, selection, seed):
    return f"seed_{seed}/{teacher}/{selection}"


def _division_dir(arm, seed):
    return f"seed_{seed}/data/{arm.data}"


def _num_classes(arm):
    return (
        len(protocol_lib.DATA[arm.data].get("labeled_classes", ()))
        or _NUM_CLASSES
    )


def _train_seed(arm, seed):
    return seed + chains.SEED_STRIDE * _generation(arm.name)


@functools.cache
def _generation(name):
    """Returns how many networks come one after the other before this one."""
    arm = arms.ARMS[name]
    before = [n for n in (arm.teacher, arm.start) if n is not None]
    return max((1 + _generation(n) for n in before), default=0)


def _stage(name, module, arm=None, /, **stage_flags):
    return Stage(name, module, stage_flags, arm)
