#!/bin/sh
# Installs the packages that microw needs to build, by apt on Debian and Ubuntu. Elsewhere: prints what is needed.
#     tools/setup.sh            install
#     tools/setup.sh --list     only list the packages
#     tools/setup.sh --bundle   also install what the target `bundle` and its tests use
#     tools/setup.sh --tests    that, and what tests use: Slurm, which the test of jobs/ starts on this machine, a browser
#                               for the report, valgrind, and numpy and h5py for the reader in Python
set -eu

packages="build-essential cmake ninja-build pkg-config python3
openmpi-bin libopenmpi-dev libhdf5-openmpi-dev hdf5-tools libyaml-dev libdnnl-dev libopenblas-dev
libpcre2-dev libonig-dev libjansson-dev libutf8proc-dev libxxhash-dev libssl-dev zlib1g-dev libzstd-dev gnuplot-nox libmicrohttpd-dev"

case ${1:-} in
--bundle) packages="$packages patchelf zstd debootstrap" ;;
--tests) packages="$packages patchelf zstd debootstrap slurm-wlm munge chromium valgrind python3-numpy python3-h5py" ;;
esac
if [ "${1:-}" = "--list" ]; then
    echo $packages
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    cat <<'END'
microw needs: a C17 compiler with OpenMP, CMake 3.20+, Ninja, pkg-config, Open MPI, parallel HDF5 1.10+, libyaml,
PCRE2 (8 bit), Oniguruma, jansson, utf8proc, xxHash, OpenSSL (libcrypto), zlib, zstd (libzstd), and oneDNN or a CBLAS (OpenBLAS,
MKL, BLIS). Optional: gnuplot draws figures, libmicrohttpd serves the report.
On a cluster most of them are modules, for instance:
    module load gcc cmake openmpi hdf5/1.14-parallel openblas
Spack or conda-forge install the small ones (libyaml pcre2 oniguruma jansson utf8proc xxhash zstd) into a prefix:
    spack install libyaml pcre2 oniguruma jansson utf8proc xxhash zstd
    export PKG_CONFIG_PATH=<prefix>/lib/pkgconfig CMAKE_PREFIX_PATH=<prefix>
END
    exit 1
fi

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "setup: everything is installed"
    exit 0
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "setup: needs root to install:$missing" >&2; exit 1; }
    as_root="sudo"
fi
echo "setup: installing$missing"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "setup: done"
