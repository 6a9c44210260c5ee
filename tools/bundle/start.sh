#!/bin/sh
# Starts the program of this name that lies in ../libexec, with Open MPI as it lies in this folder. Nothing is installed, the folder may
# be moved. Links to this file work too.
# microw-env COMMAND...: any other program so, for instance one that links lib/libmicrow.so.
# Variables of the user's own keep their values; MICROW_CUDA_PATH names folders where cuBLAS and NCCL are looked for first (README).
me=$0
case $me in
*/*) ;;
*) me=$(command -v -- "$me") ;;
esac
name=${me##*/}
if [ -L "$me" ]; then
    me=$(readlink -f -- "$me")
fi
case $me in
/*) ;;
*) me=$PWD/$me ;;
esac
root=${me%/*}
case $root in
*/bin) root=${root%/bin} ;;
*) root=$root/.. ;;
esac
[ "$name" = microw-env ] || [ -x "$root/libexec/$name" ] || name=microw

export MICROW_BUNDLE="$root" OPAL_PREFIX="$root" OPAL_BINDIR="$root/bin" OPAL_LIBDIR="$root/lib"
export OPAL_PKGLIBDIR="$root/lib/openmpi" OPAL_PKGDATADIR="$root/share/openmpi" OPAL_SYSCONFDIR="$root/etc/openmpi"
export PMIX_PKGLIBDIR="$root/lib/pmix" PMIX_PKGDATADIR="$root/share/pmix"

# Without a way to start something on other machines Open MPI would not start here either, not even one process.
if [ -z "${OMPI_MCA_plm-}" ] && ! command -v ssh >/dev/null && ! command -v rsh >/dev/null && ! command -v srun >/dev/null; then
    export OMPI_MCA_plm=isolated
fi
# Shared file pointers, which microw does not use, want shared memory.
if [ -z "${OMPI_MCA_sharedfp-}" ] && ! [ -w /dev/shm ]; then
    export OMPI_MCA_sharedfp=^sm
fi
case $name in
microw) ;;
*)  # programs by their name, on this machine and on others
    export PATH="$root/bin:$PATH" PMIX_MCA_psec="${PMIX_MCA_psec-native}"
    ;;
esac
[ "$name" = microw-env ] || exec "$root/libexec/$name" "$@"
[ $# -gt 0 ] || { echo "microw-env: expected a command" >&2 && exit 2; }
exec "$@"
