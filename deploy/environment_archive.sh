#!/bin/sh
# What executors need, wheel and all, as an archive that Spark unpacks on each of them (docs/cluster.md):
#   sh deploy/environment_archive.sh environment.tar.gz [PYTHON]
# Python itself is not in it: executors must have PYTHON (left out: the python3.11 that uv finds) at the same path.
set -eu
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
project=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
PATH=$PATH:$project/.tools/uv/bin
export UV_COMPILE_BYTECODE=1 # else each executor that unpacks it compiles its modules first
made=$(mktemp -d)
trap 'rm -rf "$made" "$1.part"' EXIT
trap 'exit 1' HUP INT TERM

uv venv --quiet --relocatable --python "${2:-3.11}" "$made/environment"
prune=$(sed 's/^/--prune=/' "$project/deploy/not_on_executors.txt")
# shellcheck disable=SC2086 # a word a package
uv export --quiet --project "$project" --locked --no-dev --no-emit-project $prune --output-file "$made/requirements.txt"
uv pip install --quiet --python "$made/environment" --require-hashes --requirements "$made/requirements.txt"
uv pip install --quiet --python "$made/environment" --no-deps "$project"
tar --use-compress-program='gzip -1' -cf "$1.part" -C "$made/environment" .
mv "$1.part" "$1"
