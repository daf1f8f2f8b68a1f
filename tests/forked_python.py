"""A `python` that starts at once, since TensorFlow is imported already.

A script calls Python for each of its commands, and importing TensorFlow takes
longer than what most of them do at a tiny size. `serving` keeps one process
that has imported it and forks it for each `python -m MODULE`; what is not of
that form is run by the Python of the tests.
"""

import array
import contextlib
import json
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import threading

_ENV = "FORKED_PYTHON_SOCKET"
_INT = array.array("i").itemsize


@contextlib.contextmanager
def serving(folder):
    """Yields the environment in which scripts use a preloaded Python.

    Args:
        folder: `pathlib.Path` of an empty folder, for the command and a socket.
    """
    path = folder / "socket"
    command = folder / "python"
    command.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -SE "{__file__}" "$@"\n'
    )
    command.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(listener.fileno())],
            cwd=pathlib.Path(__file__).parents[1],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
        )
    try:
        yield {
            "PATH": os.environ["PATH"],
            "PYTHON": str(command),
            "NOISY_STUDENT_VENV": "none",
            _ENV: str(path),
        }
    finally:
        server.terminate()
        server.wait()


def _serve(descriptor):
    """Forks a process for each call, from one that has imported TensorFlow."""
    sys.path.insert(0, os.getcwd())
    # What commands import of ours, but none of them: they are to be run.
    import noisy_student.predict
    import noisy_student.train_loop  # noqa: F401

    listener = socket.socket(fileno=descriptor)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os._exit(_attend(connection))
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _attend(connection):
    """Forks the command, passes signals on, and answers with its status."""
    call, descriptors = _receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(call, descriptors)
    threading.Thread(
        target=_pass_signals, args=(connection, child), daemon=True
    ).start()
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode() + b"\n")
    return 0


def _pass_signals(connection, child):
    while number := connection.recv(1):
        os.kill(child, number[0])


def _become(call, descriptors):
    """Runs a module as the command line says, and ends the process."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environment"])
    sys.executable = call["environment"]["PYTHON"]
    sys.argv = call["words"][1:]
    sys.path[0] = call["cwd"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    sys.exit()


def _call(words):
    """Has the server run a command; returns its status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[_ENV])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(
                number, lambda number, _: connection.sendall(bytes([number]))
            )
        call = {
            "words": words,
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
        }
        _send(connection, json.dumps(call).encode(), [0, 1, 2])
        answer = b""
        while not answer.endswith(b"\n"):
            received = connection.recv(16)
            if not received:
                return 1
            answer += received
    return int(answer) if int(answer) >= 0 else 128 - int(answer)


def _send(connection, content, descriptors):
    ancillary = (
        socket.SOL_SOCKET,
        socket.SCM_RIGHTS,
        array.array("i", descriptors),
    )
    connection.sendmsg([len(content).to_bytes(4, "big")], [ancillary])
    connection.sendall(content)


def _receive(connection):
    descriptors = array.array("i")
    header, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * _INT))
    descriptors.frombytes(ancillary[0][2][: 3 * _INT])
    content, size = b"", int.from_bytes(header, "big")
    while len(content) < size:
        content += connection.recv(size - len(content))
    return json.loads(content), list(descriptors)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["-m"]:
        sys.exit(_call(sys.argv[1:]))
    else:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
