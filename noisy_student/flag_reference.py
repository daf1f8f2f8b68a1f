"""Writes the flag reference: flags, defaults and sentences, then recipes.

For example:

    python -m noisy_student.flag_reference > docs/flags.md
"""

import re
import sys

from absl import flags

from noisy_student import (
    chains,
    flag_declarations,
    presets,
    self_training,
)

_HEAD = """\
# Flags

Of `python -m noisy_student.main`. `python -m noisy_student.self_training` has
those that describe a training run, and the last group. Names, defaults and
meaning are the original code's where it has the flag; `docs/deviations.md` says
what differs, `docs/original_scripts.md` maps the original's scripts to ours,
line by line. A preset replaces defaults, an explicit flag replaces both.

Written by `python -m noisy_student.flag_reference > docs/flags.md`.
"""
# absl puts the choices of an enum before its help.
_CHOICES = re.compile(r"<(?P<choices>.*?)>: (?P<help>.*)", re.DOTALL)


def format_reference():
    """Returns the reference as Markdown: a table per group, then recipes."""
    groups = {}
    for define in (flag_declarations.define_flags, self_training.define_flags):
        flag_values = flags.FlagValues()
        define(flag_values)
        for name in flag_values:
            flag = flag_values[name]
            groups.setdefault(flag.group, {})[name] = flag
    parts = [_HEAD]
    for title, members in groups.items():
        parts.append(
            f"\n## {title}\n\n| Flag | Default | Meaning |\n|---|---|---|\n"
        )
        parts.extend(_row(flag) for _, flag in sorted(members.items()))
    parts.append("\n## Recipes\n\n| `--preset` | Sets |\n|---|---|\n")
    for name, values in presets.PRESETS.items():
        sets = " ".join(f"--{flag}={value}" for flag, value in values.items())
        parts.append(f"| `{name}` | `{sets}` |\n")
    parts.append("\n## Chains\n\n| `--chain` | Recipes |\n|---|---|\n")
    for name, chain in chains.CHAINS.items():
        presets_used = (chain.teacher, *chain.students, chain.fixres)
        recipes = " -> ".join(map(_code, filter(None, presets_used)))
        parts.append(f"| `{name}` | {recipes} |\n")
    return "".join(parts)


def _row(flag):
    text = flag.help
    choices = _CHOICES.fullmatch(text)
    if choices:
        names = choices["choices"].split("|")
        text = f"{choices['help']} One of {', '.join(map(_code, names))}."
    default = "none" if flag.default is None else _code(flag.default)
    return f"| `--{flag.name}` | {default} | {text} |\n"


def _code(value):
    if isinstance(value, list):
        value = ",".join(value)
    return f"`{value}`" if value != "" else "empty"


if __name__ == "__main__":
    sys.stdout.write(format_reference())
