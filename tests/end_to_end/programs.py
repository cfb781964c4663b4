"""Running the scripts of data_prep: as programs, on a terminal with ctrl-C, in this process."""

import contextlib
import fcntl
import io
import os
import pty
import runpy
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "data_prep").glob("*.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def path_of(name):
    "The file of a script, `convert` or `check`."
    return ROOT / "data_prep" / f"{name}.py"


def run(name, *words, cwd=ROOT, timeout=60, **options):
    "Exit status, standard output and standard error of a script as a program."
    done = subprocess.run([sys.executable, path_of(name), *map(str, words)], cwd=cwd, text=True,
                          capture_output=True, timeout=timeout, env=ENVIRONMENT, **options)
    return done.returncode, done.stdout, done.stderr


def inside(name, *words):
    "The same in this process, which has loaded everything already."
    out, err, hook = io.StringIO(), io.StringIO(), sys.excepthook
    arguments, sys.argv = sys.argv, [str(path_of(name)), *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(sys.argv[0], run_name="__main__")
                status = 0
            except SystemExit as ended:
                status = ended.code
            except BaseException as error:
                try:
                    status = sys.excepthook(type(error), error, error.__traceback__) or 1
                except SystemExit as ended:
                    status = ended.code
    finally:
        sys.argv, sys.excepthook = arguments, hook
    return int(status or 0), out.getvalue(), err.getvalue()


def interrupted(name, *words, when, timeout=60):
    "Exit status and what is shown when ctrl-C is typed as soon as `when` appears on the terminal."
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, path_of(name), *map(str, words)], cwd=ROOT, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True, env=ENVIRONMENT,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(theirs)
    shown, typed, end = "", False, time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    piece = os.read(ours, 65536).decode(errors="replace")
                except OSError:                      # the other end was closed
                    break
                if not piece:
                    break
                shown += piece
            if when in shown and not typed:
                os.write(ours, b"\x03")
                typed = True
        return process.wait(max(1, end - time.monotonic())), shown
    finally:
        process.kill()
        os.close(ours)
