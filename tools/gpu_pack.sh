#!/usr/bin/env bash
# Makes a folder to copy to a machine with a GPU on which nothing can be built or installed, and prints the command to
# run there.
#     tools/gpu_pack.sh FOLDER [--architecture 90] [--build DIR] [--after FILE] [--data DIR] [--seconds N]
# FOLDER gets bundle.tar.xz, which Python unpacks if neither zstd nor xz is installed, and gpu_check.sh.
# --architecture  of the GPU: 80, 90, 100 (90)       --build  build folder (build-gpu)
# --after         steps.txt of an earlier call of gpu_check.sh, whose good steps are not repeated
# --data          a folder with stories260K-hf and text/tinystories_2M.txt, which is added for part e
# --seconds       time limit of gpu_check.sh (450)
# Exit code 1 if the folder has over 60 MiB.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder= architecture=90 build=$here/build-gpu after= data= seconds=450
while [ $# -gt 0 ]; do
    case $1 in
    --architecture) architecture=${2:?--architecture expected a number}; shift ;;
    --build) build=${2:?--build expected a folder}; shift ;;
    --after) after=${2:?--after expected a file}; shift ;;
    --data) data=${2:?--data expected a folder}; shift ;;
    --seconds) seconds=${2:?--seconds expected a number}; shift ;;
    -*) echo "gpu_pack: unknown argument '$1'; the head of $0 lists them" >&2; exit 2 ;;
    *) folder=$1 ;;
    esac
    shift
done
[ -n "$folder" ] || { echo "gpu_pack: expected a folder: $0 FOLDER" >&2; exit 2; }
[ -z "$after" ] || [ -f "$after" ] || { echo "gpu_pack: --after: $after: no such file" >&2; exit 2; }
for part in stories260K-hf text/tinystories_2M.txt; do
    [ -z "$data" ] || [ -e "$data/$part" ] || { echo "gpu_pack: --data: $data has no $part" >&2; exit 2; }
done
for program in zstd xz patchelf; do
    command -v $program >/dev/null || { echo "gpu_pack: $program is not installed; tools/setup.sh --bundle installs it" >&2; exit 1; }
done

cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMICROW_CUDA=ON -DMICROW_BUNDLE_TESTS=ON -DMICROW_BUNDLE_LEVEL=1 \
    -DCMAKE_CUDA_ARCHITECTURES="$architecture-real" >/dev/null
cmake --build "$build" --target bundle | tail -n 1
mkdir -p "$folder"
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT
[ -z "$after" ] || cp "$after" "$steps" # it may be in the folder
rm -rf "$folder"/{bundle.tar.xz,gpu_check.sh,steps.txt,data}
echo "packing" >&2
zstd -dcq "$build"/microw-*-tests.tar.zst | xz -T0 --lzma2=preset=6,dict=64MiB >"$folder/bundle.tar.xz"
cp "$here/tools/gpu_check.sh" "$folder/"
more=
there=$(printf %q "$folder")
if [ -n "$after" ]; then
    cp "$steps" "$folder/steps.txt"
    more="$more --after $there/steps.txt"
fi
if [ -n "$data" ]; then
    mkdir "$folder/data"
    cp -r "$data/stories260K-hf" "$folder/data/"
    cp "$data/text/tinystories_2M.txt" "$folder/data/"
    more="$more --data $there/data"
fi
size=$(du -sk "$folder" | cut -f1)
echo "$folder: $((size / 1024)) MiB. If its path is the same on that machine (from the current folder), run there, with results in \$OUT:"
echo
echo "b=/tmp/microw-gpu; rm -rf \$b; mkdir -p \$b && python3 -m tarfile -e $there/bundle.tar.xz \$b || exit;" \
    "bash $there/gpu_check.sh \$b/microw-* --out \"\$OUT\" --seconds $seconds$more"
[ "$size" -le $((60 * 1024)) ] || { echo "gpu_pack: over 60 MiB" >&2; exit 1; }
