"""Every rung in every format through the parity gate: how far its probabilities are from Keras's.

    python benchmarks/parity.py [--output docs/benchmarks]          # `make parity` is the same

Each rung is trained on MNIST for a tenth of an epoch, so that its weights and moving averages are not those it began
with, and exported; 1,000 test images are compared. Prints a table, and writes parity.json.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from convladder.engine import import_engine

import_engine()

from output import prepare  # noqa: E402

import convladder as cl  # noqa: E402
from convladder.exporting.formats import FORMATS, export  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    prepare(parser, arguments.output)
    mnist = cl.load_dataset("mnist")
    formats = [name for name, chosen in FORMATS.items() if name == "onnx" or chosen is not None]
    rows = []
    print(f"| rung | {' | '.join(formats)} |\n| --- |{' --- |' * len(formats)}")
    for rung in cl.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            run = cl.train(rung, mnist, replace(cl.DEFAULT, epochs=0.1), seed=1, directory=folder)
            accounts = {name: export(run, name) for name in formats}
        differences = {name: account["largest_difference"] for name, account in accounts.items()}
        print(f"| {rung} | {' | '.join(f'{value:.0e}' for value in differences.values())} |", flush=True)
        rows.append({"rung": rung, "images": accounts["onnx"]["images"], "largest_difference": differences})
    (arguments.output / "parity.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
