# What `cmake --install` puts somewhere is enough for programs of others: C and C++, shared and static, by CMake and by pkg-config.
# $BUILD: a build of the library. $CC, $CXX, $CMAKE: as it was built.
. "$SOURCE/tests/cli/common.sh"
needs pkg-config
prefix="$work/installed here"
"$CMAKE" --install "$BUILD" --prefix "$prefix" >"$work/out" 2>&1 || { fail "install"; cat "$work/out" >&2; }
lib=$(dirname "$(find "$prefix" -name libmicrow.so)")
for file in bin/microw include/microw/microw.h include/microw/version.h share/man/man1/microw.1 share/bash-completion/completions/microw \
    share/zsh/site-functions/_microw share/doc/microw/LICENSE; do
    check "$file is installed" [ -s "$prefix/$file" ]
done
for file in libmicrow.so.0 libmicrow.a pkgconfig/microw.pc pkgconfig/microw-static.pc cmake/microw/microwConfig.cmake; do
    check "$file is installed" [ -s "$lib/$file" ]
done
! grep -rlF "$BUILD" "$prefix/include" "$lib/cmake" "$lib/pkgconfig" || fail "the build folder is named in what is installed"
check "the installed program runs" "$prefix/bin/microw" --version
for shell in bash zsh; do
    command -v $shell >/dev/null && check "completions of $shell" $shell -n "$("$MICROW" help --$shell >"$work/complete" && echo "$work/complete")"
done
if command -v bash >/dev/null; then
    got=$(bash -c '. "$1"; COMP_WORDS=(microw "$2"); COMP_CWORD=1; _microw; echo "${COMPREPLY[@]}"' bash "$prefix/share/bash-completion/completions/microw" tra)
    check "bash completes a verb" [ "$got" = train ]
    got=$(bash -c '. "$1"; COMP_WORDS=(microw train --ov); COMP_CWORD=2; _microw; echo "${COMPREPLY[@]}"' bash "$prefix/share/bash-completion/completions/microw")
    check "and an option" [ "$got" = --overwrite ]
fi
if command -v man >/dev/null && command -v groff >/dev/null; then
    check "the manual page has no faults" [ -z "$(MANWIDTH=80 man --warnings -l "$prefix/share/man/man1/microw.1" 2>&1 >/dev/null)" ]
fi
for verb in $("$MICROW" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
    check "$verb is in the manual page" grep -q "^.SS $verb" "$prefix/share/man/man1/microw.1"
done

# The examples, built elsewhere against what is installed.
model=$SOURCE/configs/demo/model
cp -r "$SOURCE/examples" "$work/examples"
examples() { # examples LANGUAGE LIBRARY
    b="$work/build $1 $2"
    "$CMAKE" -S "$work/examples" -B "$b" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" \
        -DCMAKE_C_FLAGS="-Wall -Wextra -Werror" -DCMAKE_CXX_FLAGS="-Wall -Werror" -DEXAMPLES_LANGUAGE=$1 -DEXAMPLES_LIBRARY=$2 \
        >"$work/out" 2>&1 && "$CMAKE" --build "$b" >>"$work/out" 2>&1 || { fail "examples, $1, $2"; tail -n 20 "$work/out" >&2; return; }
    "$b/train_array" "$work/sae" >"$work/trained" 2>/dev/null || fail "train_array, $1, $2"
    "$b/watch_site" "$model" 2 "one morning" >"$work/watched" 2>/dev/null || fail "watch_site, $1, $2"
    "$b/edit_site" "$model" 1 0.2 "one morning the" >"$work/edited" 2>/dev/null || fail "edit_site, $1, $2"
    "$b/steer" "$model" "$work/store/sae_models/small" 3 5 "one morning the" >"$work/steered" 2>/dev/null || fail "steer, $1, $2"
    check "what they print, $1, $2" [ "$(cat "$work/trained" "$work/watched" "$work/edited" "$work/steered" | wc -l)" = 7 ]
    check "the SAE learns, $1, $2" awk '/FVU/ { exit !($2 + 0 > 0 && $2 + 0 < 0.3) }' "$work/trained"
    check "an edit changes the text, $1, $2" [ "$(sort -u "$work/edited" | wc -l)" = 2 ]
    check "the latent changes the text, $1, $2" [ "$(sort -u "$work/steered" | wc -l)" = 2 ]
    check "the SAE is a whole one, $1, $2" "$MICROW" inspect "$work/sae"
    rm -rf "$work/sae"
}
small >"$work/exp.yaml"
for stage in harvest train; do "$MICROW" $stage "$work/exp.yaml" >"$work/out" 2>&1 || fail "$stage"; done
examples C microw::microw
cp "$work/trained" "$work/first"
examples CXX microw::static
check "the same numbers" cmp "$work/first" "$work/trained"
refused=$("$work/build C microw::microw/steer" "$model" "$work/store/sae_models/small" 99999 5 x 2>&1 >/dev/null)
check "messages go where the program says" [ "$refused" = "steer: latent 99999 is not in this SAE of 256 latents" ]

# A program with functions of the names that the library has inside.
cat >"$work/clash.c" <<'END'
#include <microw/microw.h>
#include <stdio.h>
#include <string.h>
static int called;
void step_backward(float *x, int n);
void gather_codes(void);
void resample(float *x, int n);
void step_backward(float *x, int n) { x[0] = (float)n; called++; }
void gather_codes(void) { called++; }
void resample(float *x, int n) { x[0] = (float)n; called++; }
int main(void) {
    enum { ROWS = 600, D = 8 };
    static float x[ROWS * D];
    const mw_sae_shape shape = {.variant = MW_TOPK, .n = 32, .d = D, .k = 2};
    mw_train_options options = mw_train_defaults(&shape, 20 * ROWS, 128);
    mw_backend *backend = NULL;
    mw_comm *self = NULL;
    mw_sae *sae = NULL;
    options.resample_every = 10;
    for (int i = 0; i < ROWS * D; i++) x[i] = mw_rng_normal(1, 0, (uint64_t)i);
    if (mw_comm_self(&self) != MW_OK || mw_backend_open("cpu", &backend) != MW_OK) return 1;
    if (mw_sae_new(backend, &shape, &sae) != MW_OK || mw_sae_train_array(sae, x, ROWS, self, &options, NULL) != MW_OK) return 1;
    printf("%d calls, %s, %s\n", called, mw_version(), strcmp(mw_version(), MICROW_VERSION) ? "other headers" : "these headers");
    return 0;
}
END
mv "$prefix" "$work/moved" # pkg-config reads a folder with a space as two
lib=$work/moved/${lib#"$prefix/"}
export PKG_CONFIG_PATH="$lib/pkgconfig"
for kind in microw microw-static; do
    "$CC" -o "$work/clash" "$work/clash.c" $(pkg-config --cflags --libs $kind) -Wl,-rpath,"$lib" >"$work/out" 2>&1 || { fail "link $kind"; cat "$work/out" >&2; }
    check "names of one's own, $kind" [ "$("$work/clash" 2>/dev/null)" = "0 calls, $(pkg-config --modversion microw), these headers" ]
done

# As a part of another project microw changes nothing of that project.
outer() { # outer NAME COMMANDS: a project that takes microw in by these commands
    mkdir "$work/$1"
    cat >"$work/$1/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.20)
project(outer C)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
$2
file(WRITE \${CMAKE_BINARY_DIR}/mine.c "#include <microw/microw.h>\nint main(void) { return 0; }\n")
add_executable(mine \${CMAKE_BINARY_DIR}/mine.c)
target_link_libraries(mine microw::microw)
END
    "$CMAKE" -S "$work/$1" -B "$work/$1/build" -DCMAKE_C_COMPILER="$CC" >"$work/out" 2>&1 || { fail "$1"; tail -n 20 "$work/out" >&2; }
    grep '"command".*mine\.c' "$work/$1/build/compile_commands.json" >"$work/mine"
    check "the program is compiled, $1" [ -s "$work/mine" ]
    ! grep -Eq -e '-Wall|-Werror|_GNU_SOURCE|-O3|/src ' "$work/mine" || fail "$1 sets options of the outer project: $(cat "$work/mine")"
    check "no build type for the outer project, $1" grep -q "^CMAKE_BUILD_TYPE:STRING=$" "$work/$1/build/CMakeCache.txt"
}
outer add_subdirectory "add_subdirectory(\"$SOURCE\" microw EXCLUDE_FROM_ALL)"
outer FetchContent "include(FetchContent)
FetchContent_Declare(microw SOURCE_DIR \"$SOURCE\")
FetchContent_MakeAvailable(microw)"
finish
