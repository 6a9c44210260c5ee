# Checks that includes point to the same floor or a lower one, and that outside libraries are called in their folders
# alone: in src, include and examples; C, C++ and CUDA.
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

# public headers by floor; microw.h includes all others
floor_of_header() {
    case $1 in
        base|config|tensor|backend|comm|hooks|model|dataset|store|harvest|sae|concepts|evaluate|experiment) echo "$1" ;;
        version) echo base ;;
        safetensors|tokenizer) echo model ;;
        microw) echo experiment ;;
        *) echo unknown ;;
    esac
}

check_includes() { # check_includes FILE FLOOR: includes of the project's files are of FLOOR or lower
    own=$(rank_of "$2")
    includes=$(sed -n 's/^ *# *include *["<]\(microw\/[^">]*\)[">].*/\1/p
                        s/^ *# *include *"\([^"]*\)".*/\1/p' "$1")
    for include in $includes; do
        floor=${include%%/*}
        if [ "$floor" = microw ]; then
            header=${include#microw/}
            floor=$(floor_of_header "${header%.h}")
        fi
        rank=$(rank_of "$floor")
        [ "$rank" -ge 0 ] && [ "$rank" -le "$own" ] || { echo "$1 includes $include, which is above $2"; failed=1; }
    done
}

sources() { # sources FOLDERS...: their files in C, C++ and CUDA
    find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp'
}

for file in $(sources src); do
    floor=$(echo "$file" | cut -d/ -f2)
    [ "$(rank_of "$floor")" -ge 0 ] || { echo "$file: folder $floor is no floor"; failed=1; continue; }
    check_includes "$file" "$floor"
done

# Public headers and examples include public headers alone.
for file in $(sources include examples); do
    grep -nE '^ *# *include *"' "$file" | grep -v '"microw/' | sed "s,^,$file:," | grep . && failed=1
done
for file in $(sources include); do
    header=${file#include/microw/}
    floor=$(floor_of_header "${header%.h}")
    [ "$(rank_of "$floor")" -ge 0 ] || { echo "$file: no floor is known for it"; failed=1; continue; }
    check_includes "$file" "$floor"
done

only_in() { # only_in PATTERN PATHS...: the pattern occurs in no other file
    pattern=$1
    shift
    for hit in $(sources src include examples | xargs grep -lE "$pattern"); do
        allowed=0
        for path in "$@"; do case $hit in $path*) allowed=1 ;; esac; done
        [ $allowed = 1 ] || { printf '%s uses %s\n' "$hit" "$pattern"; failed=1; }
    done
}
only_in '\bMPI_[A-Z][a-z_]+ *\(|^ *# *include.*mpi\.h' src/comm src/store/h5_file.c
only_in '\bH5[A-Z]+[a-z_0-9]+ *\(' src/store
only_in 'yaml_(parser|event)' src/config
only_in 'cuda[A-Z]|cublas' src/backend/cuda src/comm/comm_nccl.c
only_in '\b(getenv|exit) *\(' src/base src/cli
only_in 'cblas_sgemm|dnnl_' src/backend/cpu
only_in 'MHD_[a-z]' src/experiment/interactive/serve.c
only_in 'pcre2_' src/model/tokenizer
only_in 'onig_' src/model/tokenizer
only_in 'ZSTD_[a-z]|\binflate *\(' src/base/decompress.c src/base/base_libraries.c
only_in '\bjson_load(s|b|f|fd|_file|_callback) *\('
only_in '\b(malloc|calloc|realloc|strdup) *\(' src/base/memory.c
[ $failed = 0 ] && echo "layers: $(sources src include examples | wc -l) files, no include or call points up"
exit $failed
