# Every public header compiles alone, as C and as C++.
set -eu
cd "$SOURCE"
for header in include/microw/*.h; do
    printf '#include "microw/%s"\nextern int alone;\n' "$(basename "$header")" >"$WORK/alone.c"
    "$CC" -std=c17 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$WORK/alone.c"
    cp "$WORK/alone.c" "$WORK/alone.cpp"
    "$CXX" -std=c++17 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$WORK/alone.cpp"
done
echo "headers: $(ls include/microw/*.h | wc -l) compile alone"
