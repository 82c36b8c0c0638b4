"""What teachers and students share, and mostly feature encoders too: what they declare, and how they answer to images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dadkit.interfaces import DepthModel, FeatureEncoder, ModelSpec, NetworkSpec, Prediction, Student
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.subject import Subject, answers_to, images, inputs_for, is_close, legal_size

DEPTH = ("teacher", "student")
MODELS = ("teacher", "student", "encoder")


_BASES: dict[str, tuple[type[nn.Module], type[NetworkSpec]]] = {
    "teacher": (DepthModel, ModelSpec),
    "student": (Student, ModelSpec),
    "encoder": (FeatureEncoder, NetworkSpec),
}


@check(*MODELS, since=1)
def builds(subject: Subject) -> None:
    """Its options build what its kind promises (a Teacher or DepthModel, a Student, a FeatureEncoder), with a spec."""
    base, spec = _BASES[subject.kind]
    model = subject.shared
    if not isinstance(model, base):
        fail(f"it built a {type(model).__qualname__}", f"Derive it from dadkit.interfaces.{base.__name__}")
    found = getattr(model, "spec", None)
    if not isinstance(found, spec):
        fail(f"its spec is {found!r}", f"Set self.spec = {spec.__name__}(…) in __init__")


@check(*DEPTH, since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """Images (B, 3, H, W) get a Prediction whose depth is (B, 1, H, W), float32, in the declared space."""
    height, width = legal_size(subject)
    model = subject.shared.eval()
    with torch.no_grad():
        answer = model(images((height, width)))
    if not isinstance(answer, Prediction):
        fail(f"forward returned a {type(answer).__qualname__}", "Return a dadkit.interfaces.Prediction")
    if answer.depth.shape != (2, 1, height, width):
        fail(
            f"2 images of {height} x {width} got depth {tuple(answer.depth.shape)}",
            "Bring the map to the input's height and width, as DepthModel.forward does",
        )
    if answer.depth.dtype != torch.float32:
        fail(f"its depth is {answer.depth.dtype}", "Return depth.float(): losses and metrics need its digits")
    if answer.space is not model.spec.space:
        fail(f"it answers in space '{answer.space}' and declares '{model.spec.space}'", "Make the two agree")


@check(*DEPTH, since=1, needs=["answers"])
def finite(subject: Subject) -> None:
    """Depth is finite wherever the prediction says that it is valid, for plain, dark, bright and noisy images too."""
    size = legal_size(subject)
    noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    for name, picture in {
        "black": torch.zeros(1, 3, *size),
        "white": torch.ones(1, 3, *size),
        "grey": torch.full((1, 3, *size), 0.5),
        "noisy": noise,
        "smooth": images(size, batch=1),
    }.items():
        answer = _answer(subject, picture)
        valid = torch.ones_like(answer.depth, dtype=torch.bool) if answer.valid is None else answer.valid
        wrong = ~answer.depth.isfinite() & valid
        if wrong.any():
            fail(
                f"{int(wrong.sum())} of {wrong.numel()} pixels of a {name} image are valid and not finite",
                "Guard divisions and logarithms (a plain image has no deviation), or mark such pixels in Prediction.valid",
            )


@check(*DEPTH, since=1, needs=["finite"])
def value_range(subject: Subject) -> None:
    """Depth keeps to the range that the spec declares."""
    low, high = subject.shared.spec.range
    skip_unless(low is not None or high is not None, "spec.range declares no bound")
    depth = _answer(subject, images(legal_size(subject))).depth
    slack = 1e-5 * max(abs(low or 0.0), abs(high or 0.0), 1.0)
    if (low is not None and depth.min() < low - slack) or (high is not None and depth.max() > high + slack):
        fail(
            f"values run from {float(depth.min()):.4g} to {float(depth.max()):.4g}, the spec declares {low} to {high}",
            "Bound the head (ReLU, sigmoid, clamp), or declare the true range",
        )


@check(*MODELS, since=1, needs=["builds"])
def licence(subject: Subject) -> None:
    """The spec states the licence of the weights, which travels into every run and student."""
    stated = subject.shared.spec.license
    if not stated.strip() or stated == "unknown":
        fail(f"spec.license is {stated!r}", "Give an SPDX identifier or a text; for random weights that of your code")


@check(*MODELS, since=1, needs=["builds"])
def metadata(subject: Subject) -> None:
    """What was registered for listings (space, size_multiple) is what the built model declares."""
    component = subject.component
    skip_unless(component is not None, "it was not given by a registered name")
    assert component is not None
    spec = subject.shared.spec
    for key in ("space", "size_multiple"):  # the licence is that of released weights, which a test seldom has
        registered, declared = getattr(component, key), getattr(spec, key, None)
        if registered is not None and key not in subject.options and str(registered) != str(declared):
            fail(
                f"register(…, {key}={registered!r}), but spec.{key} is {str(declared)!r}",
                "Make the two agree; leave the argument of register out where options decide it",
            )


@check(*MODELS, since=1, needs=["answers"])
def odd_sizes(subject: Subject) -> None:
    """Sides that are no multiple of size_multiple are answered as they are, or refused with a message that names it."""
    height, width = legal_size(subject)
    multiple = subject.shared.spec.size_multiple
    size = (height + max(1, multiple // 2 - 1), width + max(1, multiple // 3))
    try:
        found = answers_to(subject, subject.shared, (images(size, batch=1),))
    except ValueError as error:
        if str(multiple) not in str(error):
            fail(
                f"images of {size[0]} x {size[1]} are refused with {str(error)!r}",
                f"Name the multiple, {multiple}, in the message, or resize as the base class does",
            )
        return
    if subject.kind != "encoder" and found[0].shape != (1, 1, *size):
        fail(
            f"an image of {size[0]} x {size[1]} got depth {tuple(found[0].shape)}",
            f"Do not crop to the multiple of {multiple}: resize to it and back, as DepthModel.forward does",
        )


@check(*MODELS, since=1, needs=["answers"])
def features(subject: Subject) -> None:
    """Every feature tap that the spec names is answered, finite, with the declared number of channels."""
    declared = subject.shared.spec.features
    skip_unless(bool(declared), "spec.features declares no tap")
    answer = subject.shared.eval()(images(legal_size(subject)))
    found = answer if subject.kind == "encoder" else answer.features
    for name, channels in declared.items():
        if name not in found:
            fail(
                f"tap '{name}' is declared, answered are {list(found)}",
                "Return it among the features, or take it out of the spec",
            )
        tap = found[name]
        axis = {3: 2, 4: 1}.get(tap.ndim)
        if axis is None or tap.shape[axis] != channels or len(tap) != 2:
            fail(
                f"tap '{name}' of 2 images is {tuple(tap.shape)}, declared are {channels} channels",
                "Give tokens (B, N, C) or maps (B, C, h, w), with C as declared",
            )
        if not tap.isfinite().all():
            fail(f"tap '{name}' is not finite", "Look for overflow or division by zero in its layer")


@check(*MODELS, since=1, needs=["deterministic"])
def state_dict(subject: Subject) -> None:
    """Its state_dict holds everything that the answer depends on: loaded into another new model it gives the same answers."""
    model, other = subject.fresh(seed=0), subject.fresh(seed=1)
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        fail(f"state_dict holds {', '.join(odd)}, which is no tensor", "Files hold tensors only; keep the rest in options")
    other.load_state_dict(state)
    inputs = inputs_for(subject)
    for mine, loaded in zip(answers_to(subject, model, inputs), answers_to(subject, other, inputs), strict=True):
        if not is_close(loaded, mine, tolerance=1e-5):
            fail(
                "a second model with the first one's state_dict answers differently",
                "Register what is drawn or measured at construction as a buffer or parameter, persistent=True",
            )


@check(*MODELS, since=1, needs=["deterministic"])
def dtypes(subject: Subject) -> None:
    """After .to(float64) and .to(bfloat16) it takes images of that dtype; its depth stays float32."""
    (picture,) = inputs_for(subject)
    wanted = answers_to(subject, subject.shared, (picture,))
    for dtype, tolerance in ((torch.float64, 1e-2), (torch.bfloat16, math.inf)):
        model = subject.fresh().to(dtype)
        try:
            found = answers_to(subject, model, (picture.to(dtype),))
        except RuntimeError as error:
            fail(
                f"in {dtype} it raised {' '.join(str(error).split())}",
                "Make constants with x.new_tensor or dtype=x.dtype, and register tensors as buffers",
            )
        if subject.kind != "encoder" and found[0].dtype != torch.float32:
            fail(f"in {dtype} its depth is {found[0].dtype}", "Return depth.float()")
        if not found[0].isfinite().all() or (tolerance < 1 and not is_close(found[0], wanted[0], tolerance=tolerance)):
            fail(f"in {dtype} it answers otherwise than in float32", "Do not switch formulas by dtype")


@check(*MODELS, since=1, needs=["answers"])
def devices(subject: Subject) -> None:
    """After .to(device) everything it uses is on that device (tried on the meta device, and on a GPU if there is one)."""
    names = ["meta", "cuda"] if torch.cuda.is_available() else ["meta"]
    for name in names:
        model = subject.fresh().to(name)
        try:
            found = answers_to(subject, model, (images(legal_size(subject)).to(name),))
        except NotImplementedError:
            continue  # it looks at values, which the meta device has not: nothing can be told there
        except RuntimeError as error:
            if name == "meta" and "meta tensors" in str(error) and "item" in str(error):
                continue
            fail(
                f"after .to('{name}') it raised {' '.join(str(error).split())[:300]}",
                "Register constant tensors with register_buffer, and make new ones with device=x.device",
            )
        if found[0].device.type != name:
            fail(f"after .to('{name}') it answers on {found[0].device}", "Leave the answer where the input is")


@check(*MODELS, since=1, needs=["answers"])
def autocast(subject: Subject) -> None:
    """Under torch.autocast(bfloat16) it runs, and its depth is finite and float32."""
    (picture,) = inputs_for(subject)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = answers_to(subject, subject.shared, (picture,))
    except RuntimeError as error:
        fail(
            f"it raised {' '.join(str(error).split())}",
            "Layers answer in bfloat16 there: allocate with their dtype, or leave autocast where digits matter",
        )
    if not found[0].isfinite().all() or (subject.kind != "encoder" and found[0].dtype != torch.float32):
        fail(
            f"depth is {found[0].dtype}, finite: {bool(found[0].isfinite().all())}",
            "Return depth.float(), computed without overflow",
        )


@check(*DEPTH, since=1, needs=["answers"])
def predict(subject: Subject) -> None:
    """A call of predict(image) answers at the image's own size, without gradient, and leaves the training flag as it was."""
    model = subject.shared
    was_training = model.training
    size = (45, 61)
    answer = model.predict(images(size, batch=1)[0])
    if answer.depth.shape != (1, 1, *size):
        fail(f"an image of {size[0]} x {size[1]} got depth {tuple(answer.depth.shape)}", "Leave predict to the base class")
    if answer.depth.requires_grad or model.training != was_training:
        fail("predict built a graph or left the model in another mode", "Leave predict to the base class")


@check(*DEPTH, since=1, needs=["answers"])
def export(subject: Subject) -> None:
    """If it claims so (exportable=True), torch.export takes its forward and gives the same depth."""
    skip_unless(subject.exportable, "it does not claim to be exportable")
    model = _DepthOnly(subject.fresh()).eval()
    picture = images(legal_size(subject), batch=1)
    with torch.no_grad():
        wanted = model(picture)
        try:
            program = torch.export.export(model, (picture,))
        except Exception as error:  # every part of the compiler has exceptions of its own
            fail(
                f"torch.export raised {type(error).__name__}: {str(error).splitlines()[0]}",
                "Take out branches on tensors' values",
            )
        if not is_close(program.module()(picture), wanted, tolerance=1e-4):
            fail("the exported program answers otherwise", "Take out what happens outside of the traced graph")


class _DepthOnly(nn.Module):
    def __init__(self, model: DepthModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        depth: Tensor = self.model(images).depth
        return depth


def _answer(subject: Subject, picture: Tensor) -> Prediction:
    with torch.no_grad():
        answer: Prediction = subject.shared.eval()(picture)
    return answer
