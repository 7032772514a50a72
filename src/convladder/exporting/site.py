"""The page as a folder for any static host: the classifier runs in the browser with ONNX Runtime Web."""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import scratch_folder
from convladder.inference.classifier import Classifier
from convladder.runs.catalogue import describe_examples, describe_model, find_examples, find_run
from convladder.runs.film import describe_film, list_films
from convladder.runs.lesson import describe_lesson

MODELS_FILE = "models.json"
PACKAGE = "onnxruntime-web"
RUNTIME_VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SECONDS_FOR_NPM = 300
SECONDS_FOR_NODE = 300
SERVING = files("convladder.serving")


def write_site(classifiers: Mapping[str, Classifier], folder: Path, runtime: Path | None = None) -> None:
    """Write the page, its models and ONNX Runtime Web into a new folder.

    Args:
        classifiers: Classifiers by the names that the page shows.
        folder: The folder to create.
        runtime: The folder `dist` of an installed onnxruntime-web; by default npm fetches version 1.30.0.

    Raises:
        ConvladderError: npm is missing or failed, exit status 1; the runtime does not exist.
        OSError: The folder cannot be written.
    """
    _write_runtime(folder / "runtime", runtime)
    _write_page(folder)
    _write_models(folder, classifiers)
    _write_lesson(folder / "learn", classifiers)
    _write_films(folder / "film", classifiers)


def answer_in_node(
    folder: Path, model: Path, images: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.float32]:
    """The exported runtime's answers for pixels of shape (count, height, width, channels), in Node.

    Raises:
        ConvladderError: Node is missing, or failed; exit status 1.
    """
    with scratch_folder() as temporary, as_file(SERVING / "parity.mjs") as script:
        pixels, answers = temporary / "pixels", temporary / "answers"
        pixels.write_bytes(np.ascontiguousarray(images).tobytes())
        # The runtime's .js files are modules. Node needs a package.json that says so.
        local = temporary / "runtime"
        shutil.copytree(folder / "runtime", local)
        (local / "package.json").write_text('{"type": "module"}', encoding="utf-8")
        shape = ",".join(map(str, images.shape[1:]))
        given = str(script), str(local), str(model.resolve()), str(pixels), shape, str(answers)
        _call("node", *given, folder=temporary, seconds=SECONDS_FOR_NODE)
        return np.frombuffer(answers.read_bytes(), "<f4").reshape(-1, num_classes)


def _write_runtime(target: Path, installed: Path | None) -> None:
    target.mkdir(parents=True)
    with scratch_folder() as temporary:
        source = installed or _fetch(temporary)
        for name in RUNTIME_FILES:
            if not (source / name).is_file():
                raise ConvladderError(
                    f"{source} holds no {name}. Expected the folder dist of {PACKAGE} {RUNTIME_VERSION}."
                )
            shutil.copyfile(source / name, target / re.sub(r"\.mjs$", ".js", name))
    (target / "NOTICE.txt").write_bytes((SERVING / "runtime-notice.txt").read_bytes())


def _fetch(folder: Path) -> Path:
    """Fetch the package with npm, and unpack the files that are needed."""
    printed = _call(
        "npm",
        "pack",
        f"{PACKAGE}@{RUNTIME_VERSION}",
        "--json",
        "--pack-destination",
        str(folder),
        folder=folder,
        seconds=SECONDS_FOR_NPM,
    )
    (packed,) = json.loads(printed)
    if packed["integrity"] != INTEGRITY:
        raise ConvladderError(
            f"npm fetched {PACKAGE} {RUNTIME_VERSION} with the checksum {packed['integrity']}. Expected {INTEGRITY}.",
            exit_status=1,
        )
    with tarfile.open(folder / packed["filename"]) as archive:
        for name in RUNTIME_FILES:
            archive.extract(f"package/dist/{name}", folder, filter="data")
    return folder / "package" / "dist"


def _call(*command: str, folder: Path, seconds: float) -> str:
    """Run a command in its own folder, because npm would read the .npmrc of the current one."""
    other = f" Or give --runtime, the folder dist of an installed {PACKAGE}." if command[0] == "npm" else ""
    try:
        finished = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", timeout=seconds, check=True
        )
    except FileNotFoundError as error:
        reason = f"{command[0]} is not installed. Install Node.js."
        raise ConvladderError(f"{reason}{other}", exit_status=1) from error
    except subprocess.TimeoutExpired as error:
        raise ConvladderError(f"{command[0]} took longer than {seconds:g} s.{other}", exit_status=1) from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())[:300]
        raise ConvladderError(f"{command[0]} failed: {reason}.{other}", exit_status=1) from error
    return finished.stdout


def _write_page(site: Path) -> None:
    web = SERVING / "web"
    (site / "page").mkdir()
    (site / "index.html").write_bytes((web / "index.html").read_bytes())
    for file in (web / "page").iterdir():
        if file.name != "server-engine.js":
            (site / "page" / file.name).write_bytes(file.read_bytes())


def _write_lesson(target: Path, classifiers: Mapping[str, Classifier]) -> None:
    target.mkdir()
    for file in (SERVING / "web" / "learn").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    (target / "lesson.json").write_text(json.dumps(describe_lesson(classifiers)), encoding="utf-8")


def _write_films(target: Path, classifiers: Mapping[str, Classifier]) -> None:
    (target / "of").mkdir(parents=True)
    for file in (SERVING / "web" / "film").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    found = {name: find_run(classifier) for name, classifier in classifiers.items()}
    runs = {name: run for name, run in found.items() if run}
    listed = list_films({name: run.path for name, run in runs.items()}, [f"of/{n}.json" for n in range(len(runs))])
    for entry in listed:
        if entry["file"]:
            described = json.dumps(describe_film(runs[entry["name"]]))
            (target / entry["file"]).write_text(described, encoding="utf-8")
    (target / "films.json").write_text(json.dumps({"films": listed}), encoding="utf-8")


def _write_models(site: Path, classifiers: Mapping[str, Classifier]) -> None:
    (site / "models").mkdir()
    (site / "examples").mkdir()
    models: list[dict[str, Any]] = []
    taken: set[str] = set()
    for name, classifier in classifiers.items():
        file = re.sub(r"[^\w.-]", "-", name)
        while file.casefold() in taken:  # taken by a name that differs in a space, a sign or case
            file += "-"
        taken.add(file.casefold())
        shutil.copyfile(classifier.path, site / "models" / f"{file}.onnx")
        model = describe_model(name, classifier) | {"file": quote(f"models/{file}.onnx")}
        examples = find_examples(classifier)
        if examples:
            (site / "examples" / f"{file}.bin").write_bytes(examples.images.tobytes())
            model["examples"] = describe_examples(examples, quote(f"examples/{file}.bin"))
        models.append(model)
    (site / MODELS_FILE).write_text(json.dumps({"format": 1, "engine": "browser", "models": models}), encoding="utf-8")
