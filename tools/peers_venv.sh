#!/bin/sh
# Makes a Python environment with the libraries that microw is compared with:
#     tools/peers_venv.sh DIR && DIR/bin/python tools/bench/peers.py
# mi-crow requires numpy below 2, which others refuse, but runs with a newer one: it is installed without its
# dependencies.
set -eu
[ $# = 1 ] || { echo "peers_venv.sh DIR" >&2; exit 2; }
python3 -m venv "$1"
"$1/bin/pip" install -q -r "$(dirname "$0")/requirements-peers.txt"
"$1/bin/pip" install -q --no-deps mi-crow==1.0.0.post10 overcomplete==0.3.0
echo "$1/bin/python"
