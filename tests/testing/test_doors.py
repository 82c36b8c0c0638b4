"""Three doors to one set of checks: pytest classes, plain functions, and what both do about gaps and versions."""

from __future__ import annotations

import pytest
import torch

from dadkit.testing import (
    CheckFailedError,
    DatasetConformance,
    LossConformance,
    Outcome,
    StudentConformance,
    TeacherConformance,
    check_component,
    check_loss,
    check_student,
    checks_of,
    isolated_plugins,
)
from dadkit.testing import check as check_module
from dadkit.testing.toy import ToyImages, ToyLoss, ToyStudent, ToyTeacher


class TestToyTeacher(TeacherConformance):
    component = ToyTeacher
    options = {"detail": 0.3}  # noqa: RUF012  as an author writes it
    conformance_version = 1


class TestToyLoss(LossConformance):
    component = ToyLoss


class TestToyImages(DatasetConformance):
    component = ToyImages


class PerImage(ToyLoss):
    def forward(self, pred, target, mask=None):
        return super().forward(pred, target, mask).expand(len(pred))


class TestGapIsAnXfail(LossConformance):
    """All its tests pass, are skipped, or (``answers``) xfail, or this file fails."""

    component = PerImage
    expected_failures = {"answers": "it answers per image"}  # noqa: RUF012


def test_every_check_became_a_test_with_its_contract():
    for name, one in checks_of("teacher").items():
        assert getattr(TestToyTeacher, f"test_{name}").__doc__ == one.contract


def test_a_failing_check_raises_with_what_to_change_and_the_contract():
    class Broken(LossConformance):
        component = PerImage

    with pytest.raises(CheckFailedError, match=r"(?s)PerImage: it answered with a tensor \(2,\)\. Return one.*Contract: Maps"):
        Broken().test_answers()
    with pytest.raises(pytest.skip.Exception, match="it can tell nothing as long as answers fails"):
        Broken().test_empty_mask()


def test_a_gap_that_is_closed_must_go():
    class Closed(LossConformance):
        component = ToyLoss
        expected_failures = {"answers": "it used to fail"}  # noqa: RUF012

    with pytest.raises(CheckFailedError, match="it passes, although expected_failures says 'it used to fail'"):
        Closed().test_answers()


def test_checks_may_not_be_overridden():
    with pytest.raises(TypeError, match="overrides test_answers, but a check means the same for every plugin"):

        class Lenient(TeacherConformance):
            component = ToyTeacher

            def test_answers(self):
                pass


@pytest.mark.parametrize(
    ("gaps", "message"),
    [({"awnsers": "x"}, "names 'awnsers', but the checks of a loss are builds, answers"), ({"answers": " "}, "must say why")],
)
def test_gaps_must_exist_and_have_a_reason(gaps, message):
    with pytest.raises(ValueError, match=message):
        type("Odd", (LossConformance,), {"component": ToyLoss, "expected_failures": gaps})
    with pytest.raises(ValueError, match=message):
        check_loss(ToyLoss, expected_failures=gaps)


def test_a_class_without_a_component_says_so():
    class Nameless(LossConformance):
        pass

    with pytest.raises(TypeError, match="names no component"):
        Nameless().test_answers()


def test_later_checks_are_skipped_by_those_who_pinned(monkeypatch):
    monkeypatch.setattr(check_module, "_CHECKS", {kind: dict(checks) for kind, checks in check_module._CHECKS.items()})
    monkeypatch.setattr(check_module, "CONFORMANCE_VERSION", 2)

    @check_module.check("loss", since=2)
    def brand_new(subject):
        """Nobody passes it."""
        check_module.fail("it does not", "There is nothing to change")

    class Pinned(LossConformance):
        component = ToyLoss
        conformance_version = 1

    class Eager(LossConformance):
        component = ToyLoss
        conformance_version = 2

    with pytest.raises(pytest.skip.Exception, match="since version 2 of the suite, this class asks for 1"):
        Pinned().test_brand_new()
    with pytest.raises(CheckFailedError, match="it does not"):
        Eager().test_brand_new()
    assert "brand_new" not in {result.check for result in check_loss(ToyLoss, conformance_version=1)}
    assert "brand_new" in {result.check for result in check_loss(ToyLoss, conformance_version=2)}


def test_versions_and_kinds_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"conformance_version must be in 1 … 1, got 9; upgrade dadkit"):
        checks_of("loss", version=9)
    with pytest.raises(ValueError, match=r"kind must be one of .*context, dataset"):
        checks_of("lost")
    with pytest.raises(TypeError, match="got 3"):
        check_component("loss", 3)


def test_results_of_functions_say_everything():
    results = {result.check: result for result in check_student(ToyStudent, {"width": 4})}
    assert list(results) == list(checks_of("student"))
    assert results["answers"].outcome is Outcome.PASSED
    assert (results["export"].outcome, results["export"].message) == (Outcome.SKIPPED, "it does not claim to be exportable")
    assert results["answers"].subject == "ToyStudent"
    assert results["answers"].contract.startswith("Images (B, 3, H, W) get a Prediction")
    expected = check_loss(PerImage, expected_failures={"answers": "per image"})
    assert {result.check for result in expected if result.outcome is Outcome.EXPECTED} == {"answers"}
    assert not [result for result in expected if result.outcome is Outcome.FAILED]


def test_checks_close_the_network_and_leave_no_trace():
    import socket

    class Downloading(ToyStudent):
        def __init__(self):
            super().__init__()
            socket.create_connection(("example.com", 443))

    before = torch.get_rng_state()
    results = check_student(Downloading)
    (failed,) = [result for result in results if result.outcome is Outcome.FAILED]
    assert failed.check == "builds"
    assert "conformance checks use no network, but example.com:443 was asked for" in failed.message
    assert torch.equal(torch.get_rng_state(), before)
    assert socket.getaddrinfo("127.0.0.1", 9)  # open again


def test_the_students_size_can_be_chosen():
    class Fixed(StudentConformance):
        component = ToyStudent
        size = (20, 28)

    assert Fixed._make_subject().size == (20, 28)
    Fixed().test_answers()


def test_isolated_plugins_hide_all_others():
    from dadkit.plugin import get_registry

    before = get_registry()
    with isolated_plugins("topformer"):
        states = {record.name: str(record.state) for record in get_registry().plugins()}
        assert states.pop("topformer") == "found"
        assert set(states.values()) == {"disabled"}
    assert get_registry() is before
    with pytest.raises(ValueError, match="no installed distribution has a plugin nobody"), isolated_plugins("nobody"):
        pass
