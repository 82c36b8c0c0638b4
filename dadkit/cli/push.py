"""`dadkit card` and `dadkit push`: a model's card, and the model on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dadkit.cli.arguments import TORCH_MODEL


def card(
    model: Annotated[str, typer.Argument(help=f"{TORCH_MODEL}.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; it must not exist. Default: print it.")
    ] = None,
    repository: Annotated[
        str, typer.Option(metavar="ORG/NAME", help="On the hub, for the code that the card shows.")
    ] = "ORG/NAME",
) -> None:
    """Print a model card: what it is, how it was trained, teachers and licences, protocol, numbers with intervals, limits, use.

    It is Markdown with the metadata of the Hugging Face hub. Of a run it has what the run wrote down; nothing is measured anew.

    Example: dadkit card runs/mine -o README.md
    """
    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import note
    from dadkit.files import write_text
    from dadkit.loading import load_model
    from dadkit.publishing import PublishError, model_card

    name, options = split_model(model)
    text = model_card(load_model(name, **options), name, repository=repository)
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists():
        raise PublishError(f"{output} exists already; give another name, or remove it first")
    write_text(output, text)
    note(f"wrote {output}")


def push(
    model: Annotated[str, typer.Argument(help=f"{TORCH_MODEL}.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="On the hub; it is made where there is none.")],
    public: Annotated[bool, typer.Option("--public", help="A new repository is public. Default: private.")] = False,
    pull_request: Annotated[bool, typer.Option("--pr", help="Propose the commit instead of making it.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also a checked model.onnx.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make the folder (-o) and say what is in it, without upload.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the folder here; it must not exist.")] = None,
) -> None:
    """Upload a model to the Hugging Face hub: weights for transformers and dadkit, ONNX, licences and the card, in one commit.

    `hf auth login` stores the token that the upload needs.

    Example: dadkit push runs/mine me/depth-small
    """
    import tempfile

    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import note
    from dadkit.publishing import PublishError, prepare
    from dadkit.publishing import push as upload

    name, options = split_model(model)
    if dry_run and output is None:
        raise PublishError("--dry-run leaves a folder to look at: give -o FOLDER")
    with tempfile.TemporaryDirectory(prefix="dadkit-push-") as temporary:
        folder = prepare(name, output or Path(temporary) / "model", repository=repository, onnx=onnx, **options)
        for file in folder.files:
            note(f"{(folder.path / file).stat().st_size / 1e6:8.2f} MB  {file}")
        for text in folder.notes:
            note(f"note: {text}")
        if dry_run:
            note(f"not uploaded: {folder.path}")
        else:
            note(f"uploaded: {upload(folder.path, repository, private=not public, pull_request=pull_request)}")
