# The bundle as it lies here: what is in it, that nothing in it leads out of it, that it runs wherever it lies, and that programs link
# its library. $BUNDLE: the archive, made by the target `bundle`.
. "$SOURCE/tests/cli/common.sh"
[ -f "$BUNDLE" ] || { echo "skipped: no bundle here; cmake --build BUILD --target bundle makes it"; exit 77; }
[ "$BUNDLE" -nt "$MICROW" ] || { echo "skipped: the bundle is older than the program"; exit 77; }
needs zstd readelf

check "at most 40 MB" [ "$(wc -c <"$BUNDLE")" -le 40000000 ]
tar --zstd -xf "$BUNDLE" -C "$work" || fail "unpacking"
root=$(echo "$work"/microw-*)
check "one folder, of the archive's name" [ "$root" = "$work/$(basename "$BUNDLE" .tar.zst)" ]
for part in bin/microw bin/mpirun bin/orted libexec/microw libexec/mpirun libexec/orted lib/libmicrow.so include/microw/backend.h \
    configs/quickstart.yaml jobs/run.sbatch README.md LICENSE CHANGELOG.md docs/architecture.md licences etc/openmpi/openmpi-mca-params.conf share/openmpi/help-mpi-api.txt; do
    check "$part is there" [ -e "$root/$part" ]
done

# Libraries: those that are named, each needed one, none that is not needed; and for each its licence.
find "$root" -type f \( -path '*/lib/*' -o -path '*/libexec/*' \) | while read -r file; do
    [ "$(head -c 4 "$file" | tr -d '\0')" = "$(printf '\177ELF')" ] && echo "$file"
done >"$work/elf"
check "there are programs" [ "$(wc -l <"$work/elf")" -gt 50 ]
while read -r file; do
    readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' >>"$work/wanted"
    where=$(readelf -d "$file" | sed -n 's/.*(RPATH).*\[\(.*\)\].*/\1/p') # not RUNPATH: that comes after LD_LIBRARY_PATH
    case $where in
    '$ORIGIN' | '$ORIGIN/..' | '$ORIGIN/../lib') ;;
    *) fail "$file looks for libraries in '$where'" ;;
    esac
done <"$work/elf"
sort -u "$work/wanted" | grep -Ev '^(ld-linux-x86-64|lib(c|m|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+))\.so' >"$work/needed"
sort "$root/lib/BUNDLED" >"$work/bundled"
checks=$((checks + 1))
diff "$work/needed" "$work/bundled" >"$work/out" || { fail "libraries that are needed (<) and bundled (>)"; cat "$work/out" >&2; }
if [ "$(. /etc/os-release && echo "$ID$VERSION_ID")" = debian12 ]; then
    checks=$((checks + 1))
    grep -Ev "^#" "$SOURCE/tests/bundle/libraries.txt" | diff - "$work/bundled" >"$work/out" ||
        { fail "libraries.txt (<) and what is bundled (>)"; cat "$work/out" >&2; }
fi
while read -r library; do check "$library is there" [ -f "$root/lib/$library" ]; done <"$work/bundled"
if command -v dpkg-query >/dev/null; then
    check "licences" [ "$(ls "$root/licences" | wc -l)" -gt 30 ]
    for package in libdnnl2 libhdf5-openmpi-103-1 libopenmpi3 openmpi-bin libopenblas0-pthread; do
        dpkg-query -W "$package" >/dev/null 2>&1 && check "licence of $package" [ -s "$root/licences/$package.txt" ]
    done
fi
! grep -rqlF "$SOURCE" "$root" || fail "the folder it was built in is named in: $(grep -rlF "$SOURCE" "$root" | head -n 3)"
check "everybody may read it" [ -z "$(tar --zstd -tvf "$BUNDLE" | grep -Ev '^(-r.-r--r--|-rwxr-xr-x|drwxr-xr-x|l)')" ]
check "no file is larger than it need be" [ -z "$(find "$root" -name '*.o' -o -name '*.a' -o -name 'core')" ]

# Wherever it lies, however it is called, whatever the environment has.
mkdir "$work/with space"
mv "$root" "$work/with space/moved"
root="$work/with space/moved"
version=$("$MICROW" --version)
runs() { # runs WHAT COMMAND...
    what=$1
    shift
    checks=$((checks + 1))
    got=$("$@" 2>&1) && [ "$got" = "$version" ] || fail "$what: $got"
}
runs "by its path" "$root/bin/microw" --version
runs "without an environment" env -i "$root/bin/microw" --version
runs "by PATH" env PATH="$root/bin:$PATH" microw --version
runs "by a relative path" sh -c 'cd "$1/lib" && ../bin/microw --version' sh "$root"
runs "in its folder" sh -c 'cd "$1/bin" && ./microw --version' sh "$root"
ln -s "$root/bin/microw" "$work/mw"
runs "by a link of another name" "$work/mw" --version
runs "by the shell in its folder" sh -c 'cd "$1/bin" && sh microw --version' sh "$root"
ln -s "$root/bin/mpirun" "$work/mpiexec"
runs "mpirun by another name" "$work/mpiexec" -np 1 "$root/bin/microw" --version
cp "$root/bin/microw" "$work/alone"
refuses 1 "this is a part of a bundle" "$work/alone" --version
# what other programs on the machine have set for themselves
mkdir "$work/other"
for library in libmpi.so.40 libhdf5_openmpi.so.103 libz.so.1; do echo "no library" >"$work/other/$library"; done
runs "beside other libraries" env LD_LIBRARY_PATH="$work/other" "$root/bin/microw" --version
check "beside another Open MPI" env LD_LIBRARY_PATH="$work/other" OPAL_PREFIX=/opt/x OMPI_MCA_mca_base_component_path=/opt/x \
    "$root/bin/mpirun" -np 1 "$root/bin/microw" doctor --store "$work"
OMPI_MCA_pml=ucx OMPI_MCA_btl=openib,self,vader "$root/bin/microw" doctor --store "$work" >"$work/out" 2>"$work/err" || fail "settings of another Open MPI"
check "they are named" grep -q "OMPI_MCA_pml=ucx is ignored: this bundle's Open MPI has no ucx" "$work/err"
runs "under its own mpirun" "$root/bin/mpirun" -np 1 "$root/bin/microw" --version
runs "without /tmp for others" env TMPDIR="$work" "$root/bin/mpirun" -np 1 "$root/bin/microw" --version
check "at 3 ranks" env PATH="$root/bin:$PATH" mpirun --oversubscribe -np 3 microw doctor --store "$work"
MICROW="$root/bin/microw" "$root/bin/microw" doctor --store "$work" >"$work/out" 2>&1 || fail "doctor"
check "doctor names the bundle" grep -q "bundle" "$work/out"
small >"$work/exp.yaml"
for where in installed bundle; do
    program=$MICROW mpirun=$MPIRUN
    [ $where = bundle ] && program="$root/bin/microw" mpirun="$root/bin/mpirun"
    "$mpirun" --oversubscribe -np 2 "$program" train "$work/exp.yaml" --set store="$work/$where" >"$work/out" 2>&1 && fail "trained on nothing"
    for stage in harvest train; do
        "$mpirun" --oversubscribe -np 2 "$program" $stage "$work/exp.yaml" --set store="$work/$where" >"$work/out" 2>&1 ||
            { fail "$stage, $where"; cat "$work/out" >&2; }
    done
done
check "the same SAE" cmp "$work"/*/sae_models/small/sae.safetensors

# The library, as a program of somebody else links it.
if command -v "${CC:-cc}" >/dev/null && command -v pkg-config >/dev/null; then
    cat >"$work/mine.c" <<'END'
#include <microw/model.h>
#include <stdio.h>
void resample(float *x, int n);
void resample(float *x, int n) { x[0] = (float)n; } /* the library has one too: its own */
int main(int argc, char **argv) {
    mw_backend *backend = NULL;
    mw_model *model = NULL;
    if (argc < 2 || mw_backend_open("auto", &backend) != MW_OK) return 1;
    mw_status status = mw_model_open(argv[1], "f32", backend, &model);
    if (status == MW_OK) printf("%d layers, %s\n", (int)mw_model_about(model)->n_layers, mw_version());
    mw_model_free(&model);
    mw_backend_close(&backend);
    return status == MW_OK ? 0 : 1;
}
END
    # pkg-config reads a folder with a space as two
    mv "$root" "$work/linked" && root="$work/linked"
    export PKG_CONFIG_PATH="$root/lib/pkgconfig"
    check "a program links" "${CC:-cc}" -o "$work/mine" "$work/mine.c" $(pkg-config --cflags --libs microw)
    "$root/bin/microw-env" "$work/mine" "$root/configs/demo/model" >"$work/out" 2>&1 || fail "and runs: $(cat "$work/out")"
    check "it says" grep -q "^4 layers, 0\." "$work/out"
fi

# Where there is no GPU a build with CUDA says so.
if "$MICROW" doctor --json 2>/dev/null | grep -q '"in_build": *true'; then
    "$root/bin/microw" generate --model "$root/configs/demo/model" --prompt "one morning" >"$work/out" 2>"$work/err" || fail "generate"
    grep -q "device auto: the CPU, because" "$work/err" || command -v nvidia-smi >/dev/null || fail "auto does not say why"
    command -v nvidia-smi >/dev/null ||
        refuses 1 "device 'cuda:0' is not available: there is no NVIDIA driver" "$root/bin/microw" generate --model "$root/configs/demo/model" --prompt "a" --device cuda
fi
finish
