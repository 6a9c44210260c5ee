# The bundle on a machine that has nothing: a minimal Debian of another release, an ordinary user, no network, no packages of ours.
# $BUNDLE: the archive; $BUNDLE_TESTS: the one with the tests, whose CPU suites run there too where it has been made.
# MICROW_BARE_ROOT: where the root is kept for the next time ($BUILD/bare-root).
. "$SOURCE/tests/cli/common.sh"
[ -f "$BUNDLE" ] || { echo "skipped: no bundle here; cmake --build BUILD --target bundle makes it"; exit 77; }
[ "$BUNDLE" -nt "$MICROW" ] || { echo "skipped: the bundle is older than the program"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: chroot wants root"; exit 77; }
needs debootstrap zstd unshare chroot
release=trixie
base=${MICROW_BARE_ROOT:-$BUILD/bare-root}
if ! [ -f "$base/made" ]; then
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase $release "$base/root" ${MICROW_DEBIAN_MIRROR:-} >"$base/log" 2>&1 ||
        { echo "skipped: debootstrap failed: $(tail -n 1 "$base/log")"; exit 77; }
    touch "$base/made"
fi
cp -a "$base/root" "$work/root" || { echo "skipped: no room for a copy of the root"; exit 77; }
root=$work/root
home=/home/somebody
mkdir -p "$root$home"

# inside COMMAND: by sh in a root of its own with /proc, /sys and shared memory, as a user of it, without a network but for the loopback,
# which mpirun wants; $loopback: "down": without that too
loopback=up
net=--net
command -v ip >/dev/null || net= # nothing to bring the loopback up with
inside() {
    unshare --mount $net sh -c '
        mount -t proc proc "$1/proc" && mount -t sysfs -o ro sys "$1/sys" && mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm" || exit 1
        ip link set lo "$4" 2>/dev/null
        exec chroot --userspec=1234:1234 "$1" env -i PATH=/usr/bin:/bin HOME="$2" OMP_NUM_THREADS=1 \
            MICROW_QUICK=1 sh -c "cd $2 && $3"
    ' sh "$root" "$home" "$1" $loopback
}
inside true || { echo "skipped: no mounts of its own here"; exit 77; }
for program in mpirun gnuplot python3 gcc nvidia-smi; do
    ! inside "command -v $program" >/dev/null || fail "$program is in the bare root"
done

unpack() { # unpack ARCHIVE: into the user's folder, whose name is then in $name
    tar --zstd -xf "$1" -C "$root$home" || fail "unpacking"
    chown -R 1234:1234 "$root$home"
    name=$(basename "$1" .tar.zst)
}
unpack "$BUNDLE"
version=$("$MICROW" --version)
check "another glibc" [ "$(inside 'ldd --version | head -n 1')" != "$(ldd --version | head -n 1)" ]
check "the same version" [ "$(inside "$name/bin/microw --version")" = "$version" ]
loopback=down
inside "$name/bin/microw doctor" >"$work/out" 2>&1 || { fail "doctor"; cat "$work/out" >&2; }
inside "$name/bin/microw run $name/configs/quickstart.yaml --set store=$home/one" >"$work/out" 2>&1 || { fail "quickstart"; tail "$work/out" >&2; }
loopback=up
inside "PATH=\$PWD/$name/bin:\$PATH mpirun --oversubscribe -np 3 microw run $name/configs/quickstart.yaml --set store=$home/three" \
    >"$work/out" 2>&1 || { fail "quickstart at 3 ranks"; tail "$work/out" >&2; }
"$MPIRUN" --oversubscribe -np 3 "$MICROW" run "$SOURCE/configs/quickstart.yaml" --set store="$work/here" >"$work/out" 2>&1 ||
    { fail "quickstart of the installed program"; tail "$work/out" >&2; }
for file in sae_models/quickstart/sae.safetensors sae_models/quickstart/concepts.json; do
    check "$file of 3 ranks there is that of 1" cmp "$root$home/one/$file" "$root$home/three/$file"
    check "$file is that of the installed program" cmp "$root$home/one/$file" "$work/here/$file"
done
check "the same activations" [ "$(inside "$name/bin/microw inspect three/activations/quickstart" | grep -v store)" = \
    "$("$MICROW" inspect "$work/here/activations/quickstart" | grep -v store)" ]
check "the report" [ -s "$root$home/three/runs/quickstart/report.html" ]

if "$MICROW" doctor --json 2>/dev/null | grep -q '"in_build": *true'; then
    inside "$name/bin/microw generate --model $name/configs/demo/model --prompt x" >"$work/out" 2>&1 || fail "generate"
    check "auto says why" grep -q "device auto: the CPU, because there is no NVIDIA driver" "$work/out"
    inside "$name/bin/microw generate --model $name/configs/demo/model --prompt x --device cuda" >"$work/out" 2>&1 && fail "a GPU?"
    check "no GPU" grep -q "device 'cuda:0' is not available: there is no NVIDIA driver" "$work/out"
fi

if [ -f "$BUNDLE_TESTS" ] && [ "$BUNDLE_TESTS" -nt "$MICROW" ]; then
    check "with tests at most 48 MB" [ "$(wc -c <"$BUNDLE_TESTS")" -le 48000000 ]
    rm -rf "$root$home/$name"
    unpack "$BUNDLE_TESTS"
    inside "$name/test/run_tests.sh --only '^(unit|backend|mpi\\.(comm|harvest|training\\.[12]$)|fuzz|cli\\.(stages|usage|locks))' --out results" >"$work/out" 2>&1 ||
        { fail "suites"; grep -v '^passed' "$work/out" >&2; }
    tail -n 1 "$work/out"
fi
finish
