"""`dadkit evaluate`: models on a labelled dataset under a named protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the dataset, for instance split=test.")
    ] = None,
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="A run's folder, a model.safetensors, or PLUGIN/NAME; may be repeated.")
    ] = [],  # noqa: B006  (typer wants the default here and never mutates it)
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="A labelled dataset; `dadkit datasets` lists them.")
    ] = "procedural",
    protocol: Annotated[str, typer.Option("--protocol", "-p", help="Name of the protocol.")] = "affine-disparity",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 8,
    trivial: Annotated[bool, typer.Option("--trivial", help="Also evaluate a vertical ramp.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for evaluation.json, .csv and .jpg.")] = Path(
        "evaluation"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Evaluate models beside each other; every number is printed with its protocol.

    Example: dadkit evaluate --model runs/quickstart --dataset procedural split=test count=64
    """
    from rich.console import Console

    from dadkit.cli.tables import evaluation_table
    from dadkit.config.overrides import parse_assignments
    from dadkit.config.schema import DatasetConfig, EvaluationConfig
    from dadkit.errors import DadkitError
    from dadkit.evaluation import evaluate_run, load_protocol
    from dadkit.loading import load_model, pick_device

    if not model:
        raise DadkitError("nothing to evaluate; give --model RUN or --model PLUGIN/NAME, several times to compare")
    chosen = load_protocol(protocol)
    target = pick_device(device)
    models = {name: load_model(name).to(target) for name in dict.fromkeys(model)}
    config = EvaluationConfig(
        data=DatasetConfig(name=dataset, options=parse_assignments(options or [])),
        protocol=protocol,
        limit=limit,
        batch_size=batch_size,
        trivial=trivial,
    )
    output.mkdir(parents=True, exist_ok=True)
    console = Console()
    evaluations = evaluate_run(config, output, models)
    console.print(evaluation_table(evaluations, title=f"{dataset}: {chosen.name}"))
    console.print(chosen.summary, style="dim")
