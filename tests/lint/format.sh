# Checks that clang-format 14 changes no source in C, C++ or CUDA, and that no line, comments included, exceeds 120
# columns. Other versions of clang-format format some lines differently.
cd "$SOURCE" || exit 1
files=$(find src include tests tools examples -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp')
wide=$(LC_ALL=C awk 'length($0) > 120 { print FILENAME ":" FNR ": " length($0) " columns, expected at most 120" }' $files)
[ -z "$wide" ] || { echo "$wide"; exit 1; }
tool=$(command -v clang-format-14 || command -v clang-format) || exit 77
"$tool" --version | grep -q 'version 14' || exit 77
"$tool" --dry-run -Werror $files && echo "format: $(echo "$files" | wc -l) files are clean"
