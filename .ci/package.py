"""Builds the package and tries it as somebody else would: from the wheel, in an empty environment.

Leaves the two archives in `dist/`. Run it at the repository's root: `make package`.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

BESIDE_THE_CODE = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"}
BUILD = {"MANIFEST.in", "PKG-INFO", "pyproject.toml", "setup.cfg"}
TRIAL = """
import importlib.metadata, sys, keras, numpy
loaded = set(sys.modules)
import brn
extra = {name.partition(".")[0] for name in set(sys.modules) - loaded}
assert extra <= {"brn", *sys.stdlib_module_names}, extra
model = keras.Sequential([keras.Input((3,)), brn.BatchRenormalization(microbatch_size=2)])
x = numpy.float32([[0, 0, 0], [2, 4, 6], [1, 1, 1], [3, 5, 7]])
y = keras.ops.convert_to_numpy(model(x, training=True))
assert numpy.allclose(y, [[-1, -1, -1], [1, 1, 1]] * 2, atol=1e-3), y
assert importlib.metadata.version("batch-renormalization") == brn.__version__
print("brn", brn.__version__, "from", brn.__file__)
"""


def build():
    """Returns the source archive and the wheel, freshly built."""
    shutil.rmtree("dist", ignore_errors=True)
    log = subprocess.run(
        [sys.executable, "-m", "build"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if log.returncode:
        sys.exit(log.stdout)
    (source,), (wheel,) = Path("dist").glob("*.tar.gz"), Path("dist").glob("*.whl")
    return source, wheel


def check_contents(source, wheel):
    """Ends the program if an archive holds too much or too little."""
    code = {str(path) for path in Path("brn").rglob("*.py")} | {"brn/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    in_wheel = {name for name in names if ".dist-info/" not in name}
    with tarfile.open(source) as archive:
        files = [member.name.partition("/")[2] for member in archive if member.isfile()]
    in_source = {name for name in files if ".egg-info/" not in name}
    for archive, held, wanted in (
        (wheel, in_wheel, code),
        (source, in_source, code | BESIDE_THE_CODE | BUILD),
    ):
        if held != wanted:
            missing, surplus = sorted(wanted - held), sorted(held - wanted)
            sys.exit(f"{archive.name}: missing {missing}, not expected {surplus}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        sys.exit(f"{wheel.name}: no license")


def install_and_try(wheel):
    """Installs the wheel with JAX into an empty environment, and takes a training step there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"{wheel.resolve()}[jax]"], check=True
        )
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        subprocess.run([python, "-c", TRIAL], check=True, cwd=folder, env=environment)


if __name__ == "__main__":
    archives = build()
    check_contents(*archives)
    install_and_try(archives[1])
    print("built", *archives)
