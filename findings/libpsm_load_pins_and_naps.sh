#!/bin/bash
# Guess: loading the library of a network that the machine does not have costs nothing, and changes nothing of the process.
# What happens (libpsm2 11.2.185, libpsm-infinipath1 3.3 of Debian 12): the constructor of each pins the loading thread to one core and
# naps 125 us at a time for 0.1 s, to measure the processor's clock. Open MPI opens both in MPI_Init wherever they are installed, so each
# MPI program of Debian starts 0.2 s later, all ranks of a node on the same core meanwhile. OMPI_MCA_pml=ob1 (or ucx) keeps it from that.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt-get -q -o APT::Sandbox::User=root download libpsm2-2=11.2.185-2 libpsm-infinipath1=3.3+20.604758e7-6.2 libnuma1 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
cat >"$work/load.py" <<'END'
import os, subprocess, sys, time
load = "import ctypes, sys, time; b = time.monotonic(); ctypes.CDLL(sys.argv[1]); print(time.monotonic() - b)"
child = subprocess.Popen([sys.executable, "-c", load, sys.argv[1]], stdout=subprocess.PIPE, text=True)
before, least = len(os.sched_getaffinity(0)), len(os.sched_getaffinity(0))
while child.poll() is None:
    try:
        least = min(least, len(os.sched_getaffinity(child.pid)))
    except ProcessLookupError:
        pass
    time.sleep(0.002)
seconds = float(child.stdout.read())
print(f"{os.path.basename(sys.argv[1])}: loaded in {seconds:.3f} s, on {least} of {before} cores")
sys.exit(0 if seconds > 0.05 and least == 1 else 1)
END
changed=0
for name in libpsm2.so.2 libinfinipath.so.4; do
    library=$(find "$PWD/root" -name "$name" | head -n 1)
    LD_LIBRARY_PATH=$(dirname "$library") python3 load.py "$library" || changed=1
done
[ $changed = 0 ] && echo "as described" && exit 0
echo "this has changed"
exit 1
