"""One training on two machines: two network namespaces that a cable joins."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
from shared_run import ROOT
from small_run import few_clips
from test_launch import GIVEN
from test_training import outcome

from skelbook.evaluate.launch import words_of
from skelbook.learner.runs import read_record

NAMES, ADDRESSES = ("skelbook-a", "skelbook-b"), ("10.77.0.1", "10.77.0.2")


def ip(*words):
    "Runs a command of iproute2."
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@contextmanager
def two_machines():
    "Context in which two namespaces exist, each with one end of a virtual cable."
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("needs iproute2 and root, to make network namespaces")
    with ExitStack() as stack:
        for name in NAMES:
            stack.callback(ip, "netns", "delete", name)
            if (made := ip("netns", "add", name)).returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        ends = [f"{name[-6:]}0" for name in NAMES]
        if (made := ip("link", "add", ends[0], "netns", NAMES[0], "type", "veth", "peer", "name",
                       ends[1], "netns", NAMES[1])).returncode:
            pytest.skip(f"no virtual cables here: {made.stderr.strip()}")
        for name, end, address in zip(NAMES, ends, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield ends


def node(number, end, folder):
    "The launcher of one machine, as chapter 77 has it, in its namespace."
    given = GIVEN | {"data": str(few_clips().path), "out": str(folder)}
    command = [
        "ip", "netns", "exec", NAMES[number], sys.executable, "-m", "torch.distributed.run",
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
        f"--rdzv-endpoint={ADDRESSES[0]}:29511", "--rdzv-id=job1",
        f"--rdzv-conf=is_host={int(number == 0)}", f"--local-addr={ADDRESSES[number]}",
        "-m", "skelbook.evaluate.launch", *words_of(given)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                                "GLOO_SOCKET_IFNAME": end}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def test_two_machines_end_with_the_bits_of_one(tmp_path):
    with two_machines() as ends:
        nodes = [node(number, end, tmp_path / "two") for number, end in enumerate(ends)]
        try:
            shown = [process.communicate(timeout=120)[0] for process in nodes]
        finally:
            for process in nodes:
                process.kill()
    assert [process.returncode for process in nodes] == [0, 0], "\n".join(shown)[-3000:]
    given = GIVEN | {"data": str(few_clips().path), "out": str(tmp_path / "one"), "processes": 1}
    subprocess.run([sys.executable, "-m", "skelbook.evaluate.launch", *words_of(given)],
                   cwd=ROOT, check=True, timeout=120, capture_output=True,
                   env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert outcome(tmp_path / "two") == outcome(tmp_path / "one")
    assert read_record(tmp_path / "two")["processes"] == 2
