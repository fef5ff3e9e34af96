"""Lets PyPI's `torch` wheel load without the gigabytes of CUDA libraries it links against.

    pip install --no-deps -r bench/requirements-torch.txt     # see requirements.txt
    python bench/torch_without_cuda.py

The wheel's shared objects name cuBLAS, cuDNN, NCCL and others as needed libraries, so `import torch` fails where they are
absent, although nothing on a CPU calls them. This builds one small library (with `cc` and `nm`) that defines every symbol
they would have provided, each a function that returns an error, and links it under the missing names in `torch/lib`.
CPU code is untouched: the kernels, MKL and oneDNN are the wheel's own.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Left alone: two that are small and installed from their wheels (torch asks cudart whether there is a device), and the driver,
# whose presence would mean a device.
REAL = {"libcudart.so.13", "libcupti.so.13", "libcuda.so.1"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbols(library, which):
    """Names of the dynamic symbols of `library`, without their versions."""
    lines = output("nm", "-D", which, str(library)).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def build(library, *arguments):
    subprocess.run(["cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library), *arguments], check=True)


def main():
    lib = Path(importlib.util.find_spec("torch").origin).parent / "lib"
    objects = list(lib.glob("lib*torch*.so")) + list(lib.glob("libc*10*.so")) + list(lib.glob("libcaffe2*.so"))
    needed = set()
    for path in objects:
        needed |= set(re.findall(r"NEEDED.*\[(.+?)\]", output("readelf", "-d", str(path))))
    missing = {name for name in needed - REAL if re.match(r"lib(cu|nccl|nv)", name)}
    wanted = set().union(*(symbols(path, "--undefined-only") for path in objects))
    families = r"(cublas|cudnn|cufft|cuFile|cufile|cusparse|cusolver|nccl|nvrtc|nvshmem|nvJitLink)"
    names = sorted(name for name in wanted if re.match("_*" + families, name))
    # CUDA's status enums use 0 for success, so a stray call fails instead of seeming to work.
    source = "".join(f"int {name}(void) {{ return 1; }}\n" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nocuda.c").write_text(source)
        Path(folder, "empty.c").write_text("")
        build(lib / "libnocuda.so", f"{folder}/nocuda.c")
        # The loader refuses unversioned symbols in a library from which versioned ones are asked, so the names are
        # empty libraries and the symbols come from the one behind them all.
        for name in missing:
            build(lib / name, f"{folder}/empty.c", "-Wl,--no-as-needed", str(lib / "libnocuda.so"), "-Wl,-rpath,$ORIGIN")
    print(f"{len(names)} symbols stand in for {', '.join(sorted(missing))}")
    subprocess.run([sys.executable, "-c", "import torch; print('torch', torch.__version__, 'cuda', torch.cuda.is_available())"], check=True)


if __name__ == "__main__":
    main()
