#!/bin/sh
# What a recommender asks, with curl: is the server well, a product's vector and features, and products like it.
#
#     vitrine serve &
#     sh examples/recommender_client.sh shop shop/mug-0001
set -eu
dataset=$1 product=$2
url=${VITRINE_URL:-http://127.0.0.1:6566}

# The key goes by a file that only curl reads: on its command line, every user of the machine could see it.
ask() {
    printf 'header = "Authorization: Bearer %s"\n' "${VITRINE_FEAST__API_KEY:-none}" |
        curl --config - --silent --show-error --fail-with-body "$@"
    echo
}

ask "$url/health"
ask "$url/get-online-features" --header 'Content-Type: application/json' --data \
    "{\"feature_service\": \"${dataset}_products_serving\", \"entities\": {\"product_id\": [\"$product\"]}}"
# A product id in a URL is percent-encoded: shop/mug-0001 works as it is, a space would be %20.
ask "$url/datasets/$dataset/products/$product/similar?k=5"
