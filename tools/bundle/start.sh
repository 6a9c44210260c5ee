#!/bin/sh
# Starts the program of this name in ../libexec, with the bundle's Open MPI. Nothing is installed, and the folder may be
# moved. Links to this file work too.
# microw-env COMMAND...: starts any other program this way, for instance one that links lib/libmicrow.so.
# Variables that the user set keep their values; MICROW_CUDA_PATH names folders that are searched first for cuBLAS and
# NCCL (docs/running/gpu.md).

# Finds this folder, and the name of the program to start: follows links until ../libexec has the program.
me=$0
case $me in
*/*) ;;
*) me=$(command -v -- "$me") && [ -n "$me" ] || me=./$0 ;;
esac
while :; do
    name=${me##*/}
    dir=${me%/*}
    [ "$dir" != "$me" ] || dir=.
    [ -x "$dir/../libexec/$name" ] && break
    [ "$name" = microw-env ] && [ -x "$dir/../libexec/microw" ] && break
    if ! [ -L "$me" ] || ! next=$(readlink -- "$me"); then
        echo "microw: $0: this is a part of a bundle: expected ../libexec/$name beside its folder" >&2
        exit 1
    fi
    case $next in
    /*) me=$next ;;
    *) me=$dir/$next ;;
    esac
done
case $dir in
/*) ;;
*) dir=$PWD/$dir ;;
esac
case $dir in
*/bin) root=${dir%/bin} ;;
*) root=$dir/.. ;;
esac

export MICROW_BUNDLE="$root" OPAL_PREFIX="$root" OPAL_BINDIR="$root/bin" OPAL_LIBDIR="$root/lib"
export OPAL_PKGLIBDIR="$root/lib/openmpi" OPAL_PKGDATADIR="$root/share/openmpi" OPAL_SYSCONFDIR="$root/etc/openmpi"
export PMIX_PKGLIBDIR="$root/lib/pmix" PMIX_PKGDATADIR="$root/share/pmix"

# Settings for another Open MPI, from modules and home folders: a request for a plugin that the bundle lacks would end
# each run.
export OMPI_MCA_mca_base_param_files="$root/etc/openmpi/openmpi-mca-params.conf"
unset OMPI_MCA_mca_base_component_path
for framework in pml mtl btl osc coll io fs plm ras; do
    eval "wanted=\${OMPI_MCA_$framework-}"
    case $wanted in '' | ^*) continue ;; esac
    rest=$wanted,
    while [ -n "$rest" ]; do
        part=${rest%%,*}
        rest=${rest#*,}
        [ -f "$root/lib/openmpi/mca_${framework}_$part.so" ] && continue
        echo "microw: warning: OMPI_MCA_$framework=$wanted is ignored: this bundle's Open MPI has no $part" >&2
        unset "OMPI_MCA_$framework"
        break
    done
done

# Open MPI does not start without a program that starts processes on other machines, even if there are none.
if [ -z "${OMPI_MCA_plm-}" ] && ! command -v ssh >/dev/null && ! command -v rsh >/dev/null && ! command -v srun >/dev/null; then
    export OMPI_MCA_plm=isolated
fi
# Shared file pointers, which microw does not use, need shared memory.
if [ -z "${OMPI_MCA_sharedfp-}" ] && ! [ -w /dev/shm ]; then
    export OMPI_MCA_sharedfp=^sm
fi
if [ "$name" != microw ]; then # finds programs by name, on this machine and on others
    export PATH="$root/bin:$PATH" PMIX_MCA_psec="${PMIX_MCA_psec-native}"
fi
[ "$name" = microw-env ] || exec "$root/libexec/$name" "$@"
[ $# -gt 0 ] || { echo "microw-env: expected a command" >&2 && exit 2; }
exec "$@"
