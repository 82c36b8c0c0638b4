"""The self-check finds what can be wrong with operators on any device, and its verdict decides for ``backend="auto"``."""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import time

import pytest
import torch

from dadkit.ops import fused, library, selfcheck, verdicts
from dadkit.ops.selfcheck import CheckFailedError, check, ensure, run, settle

CPU = torch.device("cpu")
SHAPES = ((2, 13, 29), (1, 60, 70))
built = pytest.mark.skipif(library.load_error() is not None, reason="the fused operators are not built")
MACHINE = {"library": "abc", "torch": "2", "device": "a GPU", "capability": "9.0", "driver": "13000"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for module in (selfcheck, verdicts):
        monkeypatch.setattr(module, "machine", lambda device: MACHINE)
    monkeypatch.setattr(selfcheck, "forget", verdicts.known.cache_clear)
    monkeypatch.delenv(verdicts.SWITCH, raising=False)
    verdicts.known.cache_clear()
    yield tmp_path
    verdicts.known.cache_clear()


@built
def test_operators_that_are_right_pass():
    steps = []
    measured = check(CPU, SHAPES, steps.append)
    assert measured["fused ms"] < measured["reference ms"]
    assert max(value for name, value in measured.items() if "float64" in name) < 1e-9
    assert "hybrid of (2, 13, 29) in float32" in steps


@built
def test_half_precision_is_held_to_float32(monkeypatch):
    """On the emulation, which reads it as the GPU does."""
    loss, steps, times = fused.gradient_matching_loss, [], iter((1.0, 2.0))
    monkeypatch.setattr(library, "NAMESPACE", "dadkit_emulated")
    monkeypatch.setattr(selfcheck, "_milliseconds", lambda function, x: next(times))
    check(CPU, SHAPES[:1], steps.append, half=True)
    assert "half precision of (2, 13, 29)" in steps

    def other_bits(pred, *rest):
        return loss(pred, *rest) * (1.001 if pred.dtype == torch.bfloat16 else 1)

    monkeypatch.setattr(fused, "gradient_matching_loss", other_bits)
    with pytest.raises(CheckFailedError, match="half precision gives other bits"):
        check(CPU, SHAPES[:1], half=True)


def _wrong_value(loss):
    return lambda *args, **keywords: loss(*args, **keywords) * 1.001


def _wrong_gradient(loss):
    def changed(pred, *args, **keywords):
        extra = 1e-2 * pred.square().sum()
        return loss(pred, *args, **keywords) + extra - extra.detach()

    return changed


def _not_repeatable(loss):
    calls = []

    def changed(*args, **keywords):
        calls.append(1)
        return loss(*args, **keywords) * (1 + 2e-7 * (len(calls) % 2))

    return changed


def _writes_beside(loss):
    def changed(pred, *args, **keywords):
        value = loss(pred, *args, **keywords)
        ctypes.c_float.from_address(pred.data_ptr() - 4).value = 0  # as a kernel would: PyTorch notices nothing
        return value

    return changed


def _slow(loss):
    def changed(*args, **keywords):
        time.sleep(0.2)
        return loss(*args, **keywords)

    return changed


@built
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_wrong_value, r"hybrid of \(2, 13, 29\) in float32: the value is wrong by 0.001"),
        (_wrong_gradient, "the gradient is wrong"),
        (_not_repeatable, "a second run does not give the same bits"),
        (_writes_beside, "an operator wrote beside its inputs"),
        (_slow, "slower than the reference"),
    ],
)
def test_operators_that_are_wrong_fail(monkeypatch, fault, said):
    monkeypatch.setattr(fused, "hybrid_norm_loss", fault(fused.hybrid_norm_loss))
    with pytest.raises(CheckFailedError, match=said):
        check(CPU, SHAPES[:1])


def _process(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(["import json, os, signal, sys, time", *lines])]


SAYS = "print(json.dumps({'step': 'hybrid'}), flush=True)"


@pytest.mark.parametrize(
    ("lines", "passed", "said"),
    [
        (("print('noise')", "print(json.dumps(dict(passed=True, message='all right', measured={'a': 1})))"), True, "all right"),
        (("print(json.dumps(dict(passed=False, message='wrong by 2', measured={})))", "sys.exit(1)"), False, "wrong by 2"),
        ((SAYS, "os.kill(os.getpid(), signal.SIGSEGV)"), False, "signal SIGSEGV in step 'hybrid'"),
        (
            (SAYS, "sys.exit('CUDA error: an illegal access')"),
            False,
            "status 1 in step 'hybrid': CUDA error: an illegal access",
        ),
        ((SAYS, "time.sleep(60)"), False, "did not end within 1 s; its last step was 'hybrid'"),
    ],
)
def test_verdicts_on_processes(cache, lines, passed, said):
    verdict = run(CPU, _process(*lines), limit=1)
    assert verdict.passed is passed
    assert said in verdict.message
    assert verdict.machine == MACHINE


def test_a_verdict_decides_and_its_absence_is_said_once(cache, monkeypatch):
    with pytest.warns(UserWarning, match="dadkit doctor --gpu"):
        assert not verdicts.allowed(0)
    assert not verdicts.allowed(0)  # in silence
    for passed in (True, False):
        settle(CPU, _process(f"print(json.dumps(dict(passed={passed}, message='done', measured={{}})))"))
        assert verdicts.allowed(0) is passed
        assert json.loads(verdicts.place(MACHINE).read_text())["machine"] == MACHINE
    for switch in ("on", "off"):
        monkeypatch.setenv(verdicts.SWITCH, switch)
        assert verdicts.allowed(0) is (switch == "on")
    monkeypatch.setenv(verdicts.SWITCH, "yes")
    with pytest.raises(ValueError, match="must be on, off or auto"):
        verdicts.allowed(0)


def test_a_verdict_of_another_machine_or_a_broken_file_says_nothing(cache):
    settle(CPU, _process("print(json.dumps(dict(passed=True, message='done', measured={})))"))
    assert verdicts.read(MACHINE).passed
    assert verdicts.read({**MACHINE, "driver": "13010"}) is None
    verdicts.place(MACHINE).write_text("{")
    assert verdicts.read(MACHINE) is None


def test_a_cache_that_cannot_be_written_is_said(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    verdict = settle(CPU, _process("print(json.dumps(dict(passed=True, message='done', measured={})))"))
    assert verdict.passed
    assert "cannot be kept" in verdict.message


def test_only_a_gpu_is_checked_before_a_run(cache):
    assert ensure(CPU) is None


def test_the_switch_can_be_compiled(cache, monkeypatch):
    monkeypatch.setenv(verdicts.SWITCH, "on")
    compiled = torch.compile(lambda x: x + 1 if verdicts.allowed(0) else x, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1


def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "_built", lambda: type("Built", (), {"kernels": "0"}))
    monkeypatch.setattr(library, "library_path", lambda: library.Path("x.so"))
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    assert "built for version 0" in library.load_error.__wrapped__()


def test_doctor_reports_each_gpu_and_calls_a_failure_a_problem(cache, monkeypatch):
    doctor = importlib.import_module("dadkit.cli.doctor")
    problems: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert doctor._check_gpus(problems) == {"check of GPUs": "there is no CUDA device"}
    answers = iter([(True, "all right"), (False, "median is wrong")])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(selfcheck, "settle", lambda device: verdicts.Verdict(*next(answers), MACHINE, {}))
    found = doctor._check_gpus(problems)
    assert found == {"check of GPU 0": "passed: all right", "check of GPU 1": "FAILED: median is wrong"}
    assert len(problems) == 1
    assert "GPU 1" in problems[0]
