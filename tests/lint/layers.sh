# Includes point one way only, and outside libraries are called only where they belong.
set -u
cd "$SOURCE"
floors="base config tensor backend comm hooks model dataset store harvest sae concepts evaluate report experiment cli"
failed=0

rank_of() {
    n=0
    for f in $floors; do
        [ "$f" = "$1" ] && { echo $n; return; }
        n=$((n + 1))
    done
    echo -1
}

# public headers by floor
floor_of_header() {
    case $1 in
        base|config|tensor|backend|comm|hooks|model|dataset|store|harvest|sae|concepts|evaluate|experiment) echo "$1" ;;
        version) echo base ;;
        safetensors|tokenizer) echo model ;;
        *) echo unknown ;;
    esac
}

for file in $(find src -name '*.[ch]'); do
    own=$(echo "$file" | cut -d/ -f2)
    mine=$(rank_of "$own")
    [ "$mine" -ge 0 ] || { echo "$file: folder $own is no floor"; failed=1; continue; }
    for include in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file"); do
        first=${include%%/*}
        if [ "$first" = microw ]; then
            header=${include#microw/}
            first=$(floor_of_header "${header%.h}")
        fi
        theirs=$(rank_of "$first")
        [ "$theirs" -ge 0 ] && [ "$theirs" -le "$mine" ] || { echo "$file includes $include, a floor above"; failed=1; }
    done
done

only_in() { # only_in PATTERN PATHS...: the pattern occurs in no other source
    pattern=$1
    shift
    for hit in $(grep -lE "$pattern" -r src --include='*.[ch]'); do
        allowed=0
        for path in "$@"; do case $hit in $path*) allowed=1 ;; esac; done
        [ $allowed = 1 ] || { echo "$hit uses $pattern"; failed=1; }
    done
}
only_in 'MPI_[A-Z][a-z]' src/comm src/store/h5_file.c
only_in '\bH5[A-Z]+[a-z_0-9]+ *\(' src/store
only_in 'yaml_(parser|event)' src/config
only_in 'cuda[A-Z]|cublas' src/backend/cuda src/comm/comm_nccl.c
only_in '\b(getenv|exit) *\(' src/base src/cli
only_in 'cblas_sgemm|dnnl_' src/backend/cpu
only_in 'MHD_[a-z]' src/experiment/interactive/serve.c
only_in 'pcre2_' src/model/tokenizer
only_in 'ZSTD_[a-z]|\binflate *\(' src/base/decompress.c src/base/base_libraries.c
only_in '\bjson_load(s|b|f|fd|_file|_callback) *\('
only_in '\b(malloc|calloc|realloc|strdup) *\(' src/base/memory.c
[ $failed = 0 ] && echo "layers: all includes and calls point down"
exit $failed
