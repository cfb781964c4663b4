"""Running a command as a person does (on a terminal) or as a script does (in a pipe)."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAPERMILL = Path(sys.executable).parent / "papermill"
READER = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}     # less noise
READER.pop("MPLBACKEND", None)                  # set for tests; a reader sees the figures


def on_terminal(*words, cwd=ROOT, timeout=600):
    "Exit status and everything shown, for a papermill command typed on a terminal."
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PAPERMILL, *map(str, words)], cwd=cwd, stdin=theirs,
                               stdout=theirs, stderr=theirs, start_new_session=True, env=READER)
    os.close(theirs)
    shown, end = b"", time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:                          # Linux: the other end was closed
                break
            if not piece:                            # macOS: the same
                break
            shown += piece
        return process.wait(max(1, end - time.monotonic())), shown.decode(errors="replace")
    finally:
        process.kill()
        os.close(ours)


def in_pipe(*words, cwd=ROOT, timeout=600):
    "Exit status, standard output and standard error of the same in a pipe, its input a pipe too."
    done = subprocess.run([PAPERMILL, *map(str, words)], cwd=cwd, input="", capture_output=True,
                          text=True, timeout=timeout, env=READER)
    return done.returncode, done.stdout, done.stderr
