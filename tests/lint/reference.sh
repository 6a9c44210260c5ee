# The reference pages say what the program says, and the files that name the version name the same.
set -u
cd "$SOURCE" || exit 1
failed=0
sh tools/reference_pages.sh "$MICROW" --check || failed=1
version=$("$MICROW" --version | sed -n '1s/^microw \([0-9.]*[0-9]\).*/\1/p')
grep -qx "version: $version" CITATION.cff || { echo "CITATION.cff does not name version $version"; failed=1; }
grep -q "^## $version " CHANGELOG.md || { echo "CHANGELOG.md has no section of version $version"; failed=1; }
[ $failed = 0 ] && echo "reference: both pages and the version are those of the program"
exit $failed
