# Checks that clang-format 14 changes no source in C, C++ or CUDA. Other versions format some lines differently.
cd "$SOURCE" || exit 1
tool=$(command -v clang-format-14 || command -v clang-format) || exit 77
"$tool" --version | grep -q 'version 14' || exit 77
files=$(find src include tests tools examples -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp')
"$tool" --dry-run -Werror $files && echo "format: $(echo "$files" | wc -l) files are clean"
