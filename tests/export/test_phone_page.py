"""The page from photographs to a phone: every command of it, up to the files, on a few small pictures."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "phone.md").read_text(encoding="utf-8").partition("## On the device")[0]
SMALL = [
    "stages.0.iterations=1",
    "stages.0.contexts.options={view_size: 64, crop_min: 64, crop_max: 96, patch_size: 64, n: 1, overlap: 16}",
    "batch_size=2",
    "data.workers=0",
    "optim.warmup=0",
    "evaluation=null",
    "report=false",
]


@pytest.mark.slow  # a training and three translations to ONNX
def test_the_commands_of_the_page_work_in_their_order(tmp_path, monkeypatch, dadkit):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    Path("photos").mkdir()
    for name in ("street", "table"):
        Image.open(ROOT / "configs" / "images" / f"{name}.jpg").resize((160, 120)).save(f"photos/{name}.png")
    commands = [shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert [words[1] for words in commands] == [
        "inspect",
        "train",
        "predict",
        "export",
        "export",
        "export",
        "predict",
        "evaluate",
    ]
    for program, command, *arguments in commands:
        assert program == "dadkit"
        answer = dadkit(command, *arguments, *(SMALL if command == "train" else []))
        assert answer.code == 0, f"{command} {arguments}: {answer.err}"
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"phone.onnx", "phone-fixed.onnx", "phone-half.onnx"}
    assert Path("phone-half.onnx").stat().st_size < 0.7 * Path("phone.onnx").stat().st_size
