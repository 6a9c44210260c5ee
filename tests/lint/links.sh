# In the documents: relative links and their anchors, and paths in backquotes, exist; no line is wider than 120 columns.
set -u
cd "$SOURCE" || exit 1
export LC_ALL=C.UTF-8
failed=0
wrong() {
    echo "$*"
    failed=1
}

# Headings of a file as GitHub names them: lower case, hyphens for spaces, without punctuation.
anchors() {
    awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ /, ""); print tolower($0) }' "$1" |
        sed 's/`//g; s/[^a-z0-9 _-]//g; s/ /-/g'
}

# The text of a file without its blocks of code, or with blocks and code alone.
prose() { awk '/^```/ { code = !code; next } !code' "$1"; }

documents=$(find README.md CONTRIBUTING.md CHANGELOG.md docs python/README.md -name '*.md' | sort)
for file in $documents; do
    folder=$(dirname "$file")
    wide=$(awk 'length > 120 { print FNR }' "$file" | tr '\n' ' ')
    [ -z "$wide" ] || wrong "$file: lines wider than 120 columns: $wide"

    for target in $(prose "$file" | tr '\n' ' ' | grep -oE '\]\([^) ]+\)' | sed 's/^](//; s/)$//'); do
        case $target in http://* | https://*) continue ;; esac
        path=${target%%#*}
        to=$file
        [ -z "$path" ] || to=$folder/$path
        [ -e "$to" ] || { wrong "$file: no $path"; continue; }
        case $target in
        *#*) anchors "$to" | grep -qx -- "${target#*#}" || wrong "$file: $to has no heading #${target#*#}" ;;
        esac
    done

    # Paths below the folders of the sources; a pattern must match something.
    for path in $(prose "$file" | grep -oE '`[A-Za-z0-9_.*/-]+`' | tr -d '`' |
        grep -E '^(src|include|tests|tools|docs|configs|jobs|examples|python|findings)/' | sort -u); do
        case $path in
        *NAME* | tests/data* | */gpu-results.md) continue ;; # a placeholder; not in the repository
        esac
        found=
        for one in $path; do [ -e "$one" ] && found=1; done
        [ -n "$found" ] || wrong "$file: no $path"
    done
done
[ $failed = 0 ] && echo "links: all in $(echo "$documents" | wc -l) documents"
exit $failed
