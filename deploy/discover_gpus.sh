#!/bin/sh
# Spark's question to an executor's pod or a worker's machine: which GPUs are here? (spark.*.resource.gpu.discoveryScript)
set -eu
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | tr -d ' \r' | sed 's/.*/"&"/' | paste -sd, -)
printf '{"name": "gpu", "addresses": [%s]}\n' "$addresses"
