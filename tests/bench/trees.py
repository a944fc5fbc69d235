"""The trees that the benchmarks run on: built from registry packages, changed the same way each time."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("BENCH_CACHE", ROOT / "target" / "bench-corpus"))
PAGE = 8192
EPOCH = 1_700_000_000 * 10**9

# Three "Python installations": what pip fetches for these, byte-compiled. Only files that the registry serves.
PACKAGES = {
    "a": "numpy scipy pandas matplotlib scikit-learn sympy statsmodels bokeh plotly jupyterlab",
    "b": "--no-deps ansible ansible-core kubernetes botocore boto3 google-api-python-client azure-mgmt-network",
    "c": "django wagtail transformers babel faker sqlalchemy sphinx",
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def sh(*words, **more):
    subprocess.run([str(word) for word in words], check=True, **more)


def paged(path, pages):
    """A file of 8 KiB pages like a database's: half of each is random, half compresses."""
    rng = random.Random(1)
    text = (b"insert into note (id, title, body) values " * 200)[: PAGE // 2]
    with open(path, "wb") as out:
        for number in range(pages):
            out.write(number.to_bytes(8, "big") + rng.randbytes(PAGE // 2 - 8) + text)


def corpus(small):
    """The original tree; made when it is not there yet."""
    tree = CACHE / ("small" if small else "full") / "original"
    if tree.exists():
        return tree
    pip = CACHE / "pip"
    for name, packages in PACKAGES.items():
        if (pip / f"{name}.done").exists():
            continue
        say(f"fetching {packages}")
        shutil.rmtree(pip / name, ignore_errors=True)
        sh(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile",
           "--only-binary", ":all:", "--target", pip / name, *packages.split())
        # Some files are templates, not Python.
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", str(pip / name)], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (pip / f"{name}.done").touch()
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if small:
        sh("cp", "-a", pip / "c" / "django", part / "django")
        sh("cp", "-a", pip / "a" / "sympy", part / "sympy")
        sh("cp", "-a", pip / "a" / "numpy", part / "numpy")
        sh("cp", "-a", pip / "a" / "scipy", part / "scipy")
        sh("cp", "-a", pip / "b" / "kubernetes", part / "kubernetes")
    else:
        for name in PACKAGES:
            sh("cp", "-a", pip / name, part / name)
        registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry" / "src"
        if registry.is_dir():
            sh("cp", "-a", registry, part / "registry")
    paged(part / "pages.db", 4_000 if small else 40_000)
    part.rename(tree)
    return tree


def files_of(tree):
    found = []
    for folder, names, files in os.walk(tree):
        names.sort()
        found += [os.path.join(folder, name) for name in sorted(files) if not os.path.islink(os.path.join(folder, name))]
    return found


def change(tree, seed):
    """1% of the files rewritten, 1% added, 1% removed, one page in a hundred; times are fixed, so it can be repeated."""
    rng = random.Random(seed)
    files = [path for path in files_of(tree) if not path.endswith("pages.db")]
    hundredth = max(1, len(files) // 100)
    chosen = rng.sample(files, 3 * hundredth)
    stamp = EPOCH + seed * 10**9
    folders = set()

    def write(path, data):
        # As programs do: a new file beside, renamed over the old one.
        temporary = f"{path}.new~"
        with open(temporary, "wb") as out:
            out.write(data)
        os.utime(temporary, ns=(stamp, stamp))
        os.rename(temporary, path)
        folders.add(os.path.dirname(path))

    def edited(path):
        data = bytearray(Path(path).read_bytes())
        at = rng.randrange(len(data) + 1)
        data[at:at] = b"# %d\n" % rng.getrandbits(64)
        return bytes(data)

    for path in chosen[:hundredth]:
        mode = os.stat(path).st_mode
        write(path, edited(path))
        os.chmod(path, mode)
    for path in chosen[hundredth:2 * hundredth]:
        write(f"{path}.{seed}", edited(path))
    for path in chosen[2 * hundredth:]:
        os.unlink(path)
        folders.add(os.path.dirname(path))
    big = os.path.join(tree, "pages.db")
    pages = os.path.getsize(big) // PAGE
    with open(big, "r+b") as out:
        for page in rng.sample(range(pages), max(1, pages // 100)):
            out.seek(page * PAGE + 100)
            out.write(rng.randbytes(2000))
    os.utime(big, ns=(stamp, stamp))
    for folder in folders:
        os.utime(folder, ns=(stamp, stamp))


def changed(original):
    """The original after `change(…, 1)`."""
    tree = original.parent / "changed"
    if not tree.exists():
        part = tree.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        sh("cp", "-a", original, part)
        change(part, 1)
        part.rename(tree)
    return tree


def size(path):
    """Apparent bytes of all files below."""
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total
