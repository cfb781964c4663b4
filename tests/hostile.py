"""Pickles that were made to hurt, for every test that reads foreign files.

`running(canary)` are programs that run code when Python's own `pickle` opens them: they make the
file `canary`. `greedy()` run nothing, but take memory or time without end or break the interpreter.
`misfits()` are harmless and still not data. Each gives name -> bytes. Never open one with `pickle`.
"""

import gc
import os
import pickle
import struct
import time
from contextlib import contextmanager

import numpy as np

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NESTED = b")" + b"\x85" * 100_000                      # a tuple in a tuple in a tuple …
DOUBLED = b"K\x00\x85q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60))


@contextmanager
def quickly(seconds):
    "Context that has some seconds of processor time, and does not look after others' garbage."
    gc.freeze()                  # an hour of tests leaves a million objects to look through
    began = time.process_time()
    try:
        yield
        assert time.process_time() - began < seconds
    finally:
        gc.unfreeze()


def text(words, protocol=2):
    "A text, pushed."
    words = words.encode()
    return b"V%s\n" % words if protocol == 0 else b"X" + struct.pack("<I", len(words)) + words


def fetch(module, name, protocol=2):
    "A name, fetched."
    if protocol < 4:
        return f"c{module}\n{name}\n".encode()
    return text(module) + text(name) + b"\x93"


def program(body, protocol=2, wrap=True):
    "A whole pickle; by custom the body is the value of `annotations` in a dictionary."
    head = b"\x80%c" % protocol if protocol >= 2 else b""
    inside = b"(d" + text("annotations", protocol) + body + b"s" if wrap else body
    return head + inside + b"."


def call(module, name, *given, protocol=2):
    "A pickle that fetches a function and calls it."
    given = pickle.dumps(given, min(protocol, 3))[2 if protocol >= 2 else 0:-1]
    return program(fetch(module, name, protocol) + given + b"R", protocol)


def running(canary):
    "Programs that make the file `canary` when they are run, in all protocols."
    touch, write = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    inner, cases = call("os", "system", touch), {}
    for protocol in PROTOCOLS:
        for module, name, *given in (
                ("os", "system", touch), ("posix", "system", touch), ("nt", "system", touch),
                ("os", "popen", touch), ("subprocess", "Popen", ["touch", str(canary)]),
                ("subprocess", "check_output", ["touch", str(canary)]),
                ("builtins", "eval", write), ("builtins", "exec", write),
                ("__builtin__", "eval", write), ("builtins", "open", str(canary), "w"),
                ("io", "open", str(canary), "w"), ("pty", "spawn", ["touch", str(canary)]),
                ("runpy", "run_path", str(canary)), ("timeit", "timeit", write),
                ("numpy", "load", str(canary)), ("numpy", "memmap", str(canary), "u1", "w+", 0, 4),
                ("torch.storage", "_load_from_bytes", inner), ("pickle", "loads", inner),
                ("_pickle", "loads", inner), ("numpy", "lib.npyio.load", str(canary)),
                ("numpy._core.multiarray", "fromfile", str(canary))):
            cases[f"{module}.{name}-{protocol}"] = call(module, name, *given, protocol=protocol)
        system = fetch("builtins", "getattr", protocol) + b"(" + fetch("os", "path", protocol) \
            + text("os", protocol) + b"tR"
        cases[f"getattr-chain-{protocol}"] = program(system, protocol)
    order = text(touch)
    cases["inst"] = program(b"(" + order + b"ios\nsystem\n", 0)
    cases["obj"] = program(b"(" + fetch("os", "system") + order + b"o", 1)
    cases["newobj"] = program(fetch("subprocess", "Popen") + order + b"\x85\x81")
    cases["newobj-ex"] = program(text("os") + text("system") + b"\x93" + order + b"\x85}\x92", 4)
    cases["dotted"] = program(text("numpy") + text("os.system") + b"\x93" + order + b"\x85R", 4)
    cases["persistent"] = program(b"P" + touch.encode() + b"\n", 0)
    cases["persistent-2"] = program(order + b"Q")
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        cases[f"extension-{len(code)}"] = program(code + order + b"\x85R")
    cases["out-of-band"] = program(b"\x97", 5)
    cases["in-object-array"] = pickle.dumps(np.array([Call(os.system, touch)], object))
    cases["in-nested-object-array"] = pickle.dumps(
        {"a": [np.array([{"b": (Call(os.system, touch),)}, None], object)]}, 4)
    return cases


class Call:
    "Pickles as a call of a function."

    def __init__(self, function, *given):
        self.parts = function, given

    def __reduce__(self):
        return self.parts


BLANK = fetch("numpy.core.multiarray", "_reconstruct") + fetch("numpy", "ndarray") \
    + b"K\x00\x85C\x01b\x87R"


def kind(code="f4", order="<", structure="NNN"):
    "A type of numbers, pushed."
    state = b"(K\x03" + text(order) + structure.encode() + 2 * b"J\xff\xff\xff\xff" + b"K\x00t"
    return fetch("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + state + b"b"


def array(shape, code=None, data=b"C\x04abcd"):
    "An array with the given shape (instructions), type and content (instructions)."
    return BLANK + b"(K\x01" + shape + (code or kind()) + b"\x89" + data + b"tb"


def greedy():
    "Programs that ask for more memory, time or nesting than there is."
    huge, large = struct.pack("<Q", 1 << 62), struct.pack("<I", 0xFFFFFFF0)
    many = b"J\xff\xff\xff\x7f"
    letters = text("x" * 100_000) + b"q\x01"
    bodies = {
        "memo-number": b"Nr\xff\xff\xff\x7f", "memo-number-as-text": b"Np9999999999999999999\n",
        "tuple-as-key": b"}" + NESTED + b"Ns", "doubled-tuple-as-key": b"}" + DOUBLED + b"Ns",
        "tuple-as-keys": b"}(" + NESTED + b"Nu", "tuple-as-key-of-dict": b"(" + NESTED + b"Nd",
        "tuple-as-name": text("numpy") + NESTED + b"\x93", "tuple-as-function": NESTED + b")R",
        "tuple-as-type": fetch("numpy", "dtype") + NESTED + b"\x89\x88\x87R",
        "tuple-as-order": kind()[:-1] + NESTED + b"b",
        "tuple-as-encoding": fetch("_codecs", "encode") + text("a") + NESTED + b"\x86R",
        "tuple-as-shape": array(NESTED), "doubled-tuple-as-shape": array(DOUBLED),
        "doubled-tuple-as-type": fetch("numpy", "dtype") + DOUBLED + b"\x89\x88\x87R",
        "nested-lists": b"]" * 200_000 + b"a" * 199_999, "nested-tuples": NESTED,
        "doubled-tuples": DOUBLED, "marks": b"(" * 200_000, "cycle": b"]q\x00h\x00a",
        "doubled-lists": b"(" * 30 + b"]q\x00"
        + b"".join(b"h%clq%c" % (i, i + 1) for i in range(30)),
        "cycle-through-a-dict": b"}q\x00" + text("a") + b"h\x00s",
        "long-bytes": b"B" + large, "longer-bytes": b"\x8e" + huge, "bytearray": b"\x96" + huge,
        "long-text": b"X" + large, "longer-text": b"\x8d" + huge, "old-text": b"T" + large,
        "frame": b"\x95" + huge, "integer": b"\x8b" + large, "integer-2": b"\x8a\xff" + b"x" * 255,
        "integer-as-text": b"L" + b"9" * 100_000 + b"L\n",
        "integer-as-line": b"I" + b"9" * 4000 + b"\n", "huge-shape": array(many * 3 + b"\x87"),
        "negative-shape": array(b"J\xff\xff\xff\xff" * 2 + b"\x86"),
        "long-shape": array(b"(" + many * 50_000 + b"t"),
        "empty-and-huge": array(b"K\x00" + many + b"\x86", data=b"C\x00"),
        "nothing-many-times": array(many + b"\x85", kind("U0"), b"C\x00"),
        "shape-of-lists": array(b"]"), "shape-of-floats": array(b"G" + b"\x00" * 8 + b"\x85"),
        "frombuffer": fetch("numpy._core.numeric", "_frombuffer") + b"(C\x04abcd" + kind()
        + many * 3 + b"\x87" + text("C") + b"tR",
        "ndarray-called": fetch("numpy", "ndarray") + many * 3 + b"\x87\x85R",
        "scalar": fetch("numpy.core.multiarray", "scalar") + kind("U9999") + b"C\x00\x86R",
        "encode-again-and-again": letters + fetch("_codecs", "encode") + b"q\x02" + text("latin1")
        + b"q\x03]q\x04(" + b"h\x02h\x01h\x03\x86R" * 20_000 + b"e",
        "dict-again-and-again": b"](" + b"".join(b"K%cN\x86" % i for i in range(200))
        + b"eq\x01" + fetch("collections", "OrderedDict") + b"q\x02]("
        + b"h\x02h\x01\x85R" * 100_000 + b"e",
        "array-again-and-again": b"B" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x01"
        + kind("u1", "|") + b"q\x02]("
        + (BLANK + b"(K\x01J\xa0\x86\x01\x00\x85h\x02\x89h\x01tb") * 5_000 + b"e",
        "state-again-and-again": b"](" + b"N" * 100_000 + b"eq\x01" + kind() + b"h\x01b" * 100_000,
    }
    return {name: program(body, 5) for name, body in bodies.items()}


def misfits():
    "Programs that build something else than data, or nothing at all."
    one = b"K\x01\x85"                                 # the shape of an array with one number
    bodies = {
        "objects": array(one, kind("O8", "|"), b"]Na"), "void": array(one, kind("V4", "|")),
        "complex": array(one, kind("c8")), "dates": array(one, kind("M8")),
        "structured": array(one, kind(structure="N})")),
        "subtype": array(one, kind(structure=")NN")),
        "order": array(one, kind(order="x")), "list-as-content": array(one, data=b"]Na"),
        "not-unicode": array(one, kind("U1"), b"C\x04\xff\xff\xff\xff"),
        "type-without-order": array(one, fetch("numpy", "dtype") + text("f4") + b"\x89\x88\x87R"),
        "type": kind(), "blank": BLANK, "function": fetch("numpy", "dtype"), "bytes": b"C\x04abcd",
        "rot13": fetch("_codecs", "encode") + text("a") + text("rot13") + b"\x86R",
        "zip-codec": fetch("_codecs", "encode") + text("a") + text("zip") + b"\x86R",
        "encode-bytes": fetch("_codecs", "encode") + b"C\x01a" + text("latin1") + b"\x86R",
        "records": call("numpy.core.records", "fromarrays", [[1]])[2:-1],
        "matrix": call("numpy", "matrix", [[1]])[2:-1], "set": call("builtins", "set", [1])[2:-1],
        "empty-set": b"\x8f", "odd-items": b"}(K\x01u", "call-of-text": text("numpy.dtype") + b")R",
        "arguments": fetch("numpy", "dtype") + b"]R", "dotted": text("numpy")
        + text("core.multiarray._reconstruct") + b"\x93", "append-to-text": text("a") + b"Na",
        "append-to-array": array(one) + b"Na", "item-of-list": b"]NNs",
        "state-of-list": b"]}b", "few-for-a-tuple": b"N\x87", "unquoted": b"Sabc\n",
        "surrogate": b"X\x03\x00\x00\x00\xed\xa0\x80", "unknown": b"\xff", "no-mark": b"t",
        "pairs": fetch("collections", "OrderedDict") + text("ab") + b"\x85R",
        "unknown-memo": b"h\x07",
    }
    whole = program(array(one))
    return {name: program(body, 5) for name, body in bodies.items()} | {
        "nothing": b"", "only-a-stop": b".", "cut": whole[:-3], "more-after-it": whole + b"x",
        "twice": whole + whole, "text": b"hello", "zeros": bytes(1000), "npy": b"\x93NUMPY\1\0v\0{"}
