# Sources are as clang-format leaves them. Versions differ in taste: only 14 is asked.
cd "$SOURCE" || exit 1
tool=$(command -v clang-format-14 || command -v clang-format) || exit 77
"$tool" --version | grep -q 'version 14' || exit 77
"$tool" --dry-run -Werror $(find src include tests tools examples -name '*.[ch]') && echo "format: clean"
