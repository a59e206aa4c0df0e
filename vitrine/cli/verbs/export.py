"""``vitrine export``: an encoder as a folder for a search service."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import encoder_and_version
from vitrine.cli.options import Json
from vitrine.datasets.drawn import probes
from vitrine.encoders import backbones, bundle
from vitrine.settings import load_settings


def export(
    encoder: Annotated[str, typer.Argument(help="An encoder's name, or a version.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to make.", metavar="FOLDER")],
    as_json: Json = False,
) -> None:
    """Export an encoder as a folder that turns a customer's photo into a vector of exactly this version.

    The network as ONNX, its head, its preprocessing as data, 20 photos with their vectors to check it by, and
    query_encoder.py, which needs onnxruntime, Pillow and NumPy alone. A folder that has it already is verified.
    """
    settings = load_settings()
    folder = to.expanduser().absolute()
    name, version = encoder_and_version(settings, encoder)
    with runs.record(settings, "export", encoder=name) as run:
        run.encoder_version = version
        done = bundle.export(settings, name, folder, version, probes.probe_photos)
        run.figures |= asdict(done)
    if backbones.forbids_commerce(done.licence):
        print(f"the weights are under {done.licence}, which forbids commercial use", file=sys.stderr)
    output.show(f"exported {name}", run.figures, as_json)
