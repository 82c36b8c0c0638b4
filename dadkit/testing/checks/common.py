"""What every component owes its surroundings, whatever its kind."""

from __future__ import annotations

import copy
import pickle

import torch

from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject, answers_to, exercise, inputs_for, is_close
from dadkit.testing.surroundings import differences, known_state, random_states, snapshot

MODELS = ("teacher", "student", "encoder")
MAPS = ("normalizer", "loss")


@check(*MODELS, *MAPS, "context", "dataset", since=1, needs=["answers"])
def no_global_side_effects(subject: Subject) -> None:
    """Building and using it leaves the process as it was: torch's flags and threads, random states, logging, folders."""
    exercise(subject, subject.shared)  # what is imported lazily is imported now
    with known_state():
        before = snapshot()
        instance = subject.fresh()
        states = random_states()
        exercise(subject, instance)
        drawn = differences(states, random_states())
        changed = differences(before, snapshot())
    if changed:
        fail(f"it changed {', '.join(changed)}", "Leave them alone, or set them inside a `with` block that puts them back")
    if drawn:
        remedy = "Draw from a torch.Generator of your own, or from the one that is given"
        fail(f"using it drew from the process's random numbers ({', '.join(drawn)})", remedy)


@check(*MODELS, *MAPS, since=1, needs=["answers"])
def deterministic(subject: Subject) -> None:
    """The same input gets the same answer."""
    inputs = inputs_for(subject)
    first, second = (answers_to(subject, subject.shared, tuple(x.clone() for x in inputs)) for _ in range(2))
    if not all(is_close(again, once, tolerance=1e-5) for again, once in zip(second, first, strict=True)):
        largest = max(float((again - once).abs().max()) for again, once in zip(second, first, strict=True))
        fail(
            f"two calls with the same input differ by up to {largest:.3g}",
            "Take out dropout, noise and counters; a sampler inside must be seeded per call",
        )


@check(*MODELS, *MAPS, since=1, needs=["answers"])
def input_untouched(subject: Subject) -> None:
    """The tensors that it is given hold the same values afterwards."""
    inputs = inputs_for(subject)
    kept = [x.clone() for x in inputs]
    answers_to(subject, subject.shared, inputs)
    if not all(torch.equal(x, y) for x, y in zip(inputs, kept, strict=True)):
        fail("it wrote into its input", "Replace in-place operations (x.mul_, x[...] = …, out=) on arguments by copies")


@check(*MODELS, "normalizer", since=1, needs=["deterministic", "input_untouched"])
def batch_independent(subject: Subject) -> None:
    """The answer for an image does not depend on the other images of its batch."""
    inputs = inputs_for(subject)
    together = answers_to(subject, subject.shared, inputs)
    for index in range(len(inputs[0])):
        alone = answers_to(subject, subject.shared, tuple(x[index : index + 1] for x in inputs))
        for whole, single in zip(together, alone, strict=True):
            if not is_close(whole[index : index + 1], single, tolerance=1e-3):
                largest = float((whole[index : index + 1] - single).abs().max())
                fail(
                    f"image {index} of a batch gets another answer than alone (by up to {largest:.3g})",
                    "Take statistics over one image (dim=(-2, -1), say), not over the batch; keep norm layers in eval mode",
                )


@check(*MODELS, since=1, needs=["deterministic"])
def deep_copy(subject: Subject) -> None:
    """A copy by copy.deepcopy answers the same and shares no tensor with the original."""
    model = subject.fresh()
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        fail(
            f"copy.deepcopy raised {type(error).__name__}: {error}",
            "Keep locks, files and handles out of the attributes, or write __deepcopy__; averaged weights need copies",
        )
    shared = {t.data_ptr() for t in model.state_dict().values() if t.numel()} & {
        t.data_ptr() for t in twin.state_dict().values() if t.numel()
    }
    if shared:
        fail(f"the copy shares {len(shared)} tensors with the original", "Leave __deepcopy__ to torch.nn.Module")
    inputs = inputs_for(subject)
    for mine, other in zip(answers_to(subject, model, inputs), answers_to(subject, twin, inputs), strict=True):
        if not is_close(other, mine, tolerance=1e-5):
            fail("the copy answers differently", "Keep everything that the answer depends on in attributes that are copied")


@check("context", "dataset", since=1, needs=["answers"])
def pickles(subject: Subject) -> None:
    """It survives pickle, since loader workers get a copy."""
    try:
        pickle.loads(pickle.dumps(subject.fresh()))
    except Exception as error:  # pickle raises whatever the attributes' own methods raise
        fail(
            f"pickle raised {type(error).__name__}: {error}",
            "Keep open files, locks, lambdas and generators out of the attributes; open them when they are first used",
        )
