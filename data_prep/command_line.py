"""How every command line of the project starts, explains itself and fails.

A command has a `define_flags(flag_values)` and a `main(flag_values)`. This
module parses the flags, prints grouped help, and turns what a user can get
wrong into one readable line on stderr and exit code 1.
"""

import functools
import math
import os
import sys
import textwrap

from absl import app, flags, logging

from data_prep import process_memory

_HELP_WORDS = frozenset(
    f"{dashes}{word}"
    for dashes in ("-", "--")
    for word in ("help", "helpshort", "helpfull", "h")
)


class Stopped(Exception):
    """A command ends before it is done, because it was asked to.

    Args:
        message: How far it came and how it goes on, in one line.
        exit_code: Status of the process.
    """

    def __init__(self, message, exit_code):
        super().__init__(message)
        self.exit_code = exit_code


class FlagGroup:
    """Declares flags that the help lists under one heading.

    Its methods take (name, default, help, **bounds) as absl's `DEFINE_*` do;
    `enum` takes (name, default, choices, help).

    Args:
        title: Heading of the group.
        flag_values: The `absl.flags.FlagValues` the flags are declared in.
    """

    def __init__(self, title, flag_values):
        self._title = title
        self._flag_values = flag_values

    def _declare(self, define, name, *args, **kwargs):
        define(name, *args, flag_values=self._flag_values, **kwargs)
        self._flag_values[name].group = self._title

    def float(self, name, *args, **kwargs):
        """Declares a flag of a finite number; None stays None."""
        self._declare(flags.DEFINE_float, name, *args, **kwargs)
        flags.register_validator(
            name,
            lambda value: value is None or math.isfinite(value),
            message="must be a finite number.",
            flag_values=self._flag_values,
        )

    def __getattr__(self, kind):
        return functools.partial(
            self._declare, getattr(flags, f"DEFINE_{kind}")
        )


def format_help(main_doc, flag_values):
    """Returns the help text: the command's purpose, then its flags by group.

    Args:
        main_doc: Docstring of the command's module.
        flag_values: The `absl.flags.FlagValues` that hold its flags.

    Returns:
        The text, one line or paragraph per flag, defaults included.
    """
    groups = {}
    for name in flag_values:
        flag = flag_values[name]
        if hasattr(flag, "group"):
            groups.setdefault(flag.group, {})[flag.name] = flag
    lines = [(main_doc or "").strip(), ""]
    for title, members in groups.items():
        lines.append(f"{title}:")
        for flag in sorted(members.values(), key=lambda f: f.name):
            lines.extend(_describe_flag(flag))
        lines.append("")
    lines.append("Logging: --verbosity=1 adds details, -1 shows warnings only.")
    return "\n".join(lines)


def _describe_flag(flag):
    # absl puts the choices of an enum before its help.
    kind = "" if flag.help.startswith("<") else f"{flag.flag_type()}; "
    default = "none" if flag.default is None else repr(flag.default)
    body = f"{flag.help} ({kind}default: {default})"
    yield f"  --{flag.name}"
    yield from textwrap.wrap(
        body, width=78, initial_indent=" " * 6, subsequent_indent=" " * 6
    )


def run(main, define_flags, *, positional=False):
    """Runs a command and exits the process with its status.

    Args:
        main: Called with the parsed `absl.flags.FLAGS`, and with `positional`
            the list of the arguments that are no flags. ValueError, OSError and
            TensorFlow's own errors end in one line and exit code 1; with
            `--verbosity=1` the traceback is logged too. `Stopped` ends in one
            line and the exit code it names.
        define_flags: Called with `absl.flags.FLAGS` before parsing.
        positional: Whether arguments that are no flags are taken, before,
            between and behind flags; otherwise they are refused.
    """
    process_memory.limit_arenas()
    # TensorFlow's C++ start-up messages look like errors and are none; real
    # ones arrive as Python exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    define_flags(flags.FLAGS)
    logging.set_verbosity(logging.INFO)
    # Progress goes to the terminal as plain lines, not as log records.
    logging.get_absl_handler().setFormatter(None)
    flags.FLAGS.set_gnu_getopt(positional)
    app.run(
        lambda argv: _call(main, *([argv[1:]] if positional else [])),
        flags_parser=lambda argv: _parse(
            argv, sys.modules[main.__module__].__doc__, positional
        ),
    )


def _parse(argv, main_doc, positional):
    if _HELP_WORDS.intersection(argv[1:]):
        sys.stdout.write(format_help(main_doc, flags.FLAGS) + "\n")
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        _fail(str(error))
    if rest[1:] and not positional:
        _fail(f"Unexpected argument {rest[1]!r}; flags start with `--`.")
    return rest


def _call(main, *arguments):
    try:
        main(flags.FLAGS, *arguments)
    except (ValueError, OSError) as error:
        logging.debug("Traceback of the error below:", exc_info=True)
        _fail(str(error))
    except Stopped as stopped:
        sys.stderr.write(f"stopped: {stopped}\n")
        sys.exit(stopped.exit_code)
    except Exception as error:
        # TensorFlow is not imported before a command needs it.
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is None or not isinstance(
            error, tensorflow.errors.OpError
        ):
            raise
        logging.debug("Traceback of the error below:", exc_info=True)
        _fail(error.message)


def _fail(message):
    one_line = " ".join(message.split())
    sys.stderr.write(f"error: {one_line}\n")
    sys.exit(1)
