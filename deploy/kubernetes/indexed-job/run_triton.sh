#!/bin/sh
# Triton as compose.yaml starts it; a test compares the two.
set -eu
rules=shared-memory,model-config,model-repository,statistics,trace,logging:dualface-key=$(cat /run/secrets/triton_key)
exec tritonserver \
    --model-repository=/models \
    --model-control-mode=explicit \
    --load-model=face_detect \
    --load-model=face_reid \
    --disable-auto-complete-config \
    --backend-config=tensorrt,execution-policy=BLOCKING \
    --strict-readiness=true \
    --allow-client-shm=true \
    --cuda-memory-pool-byte-size="0:$CUDA_MEMORY_POOL_BYTES" \
    --pinned-memory-pool-byte-size="$PINNED_MEMORY_POOL_BYTES" \
    --http-address=127.0.0.1 \
    --http-restricted-api="$rules" \
    --grpc-address=127.0.0.1 \
    --grpc-restricted-protocol="$rules" \
    --metrics-address=127.0.0.1 \
    --metrics-config=summary_latencies=true \
    --exit-timeout-secs=20 \
    --log-format=ISO8601
