#!/usr/bin/env bash
# One photo with nothing but curl (7.76 or later) and a POSIX shell's friends: submit, wait, read the result.
#
#   DARKROOM_URL=… DARKROOM_API_KEY=… examples/curl.sh cat.jpg
set -euo pipefail
photo="$1"
auth="Authorization: Bearer $DARKROOM_API_KEY"

# One key for all tries of curl at this photo: they are one job. curl itself waits as long as Retry-After says.
key="$(cat /proc/sys/kernel/random/uuid)"
job="$(curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --data-binary "@$photo" \
    -H "$auth" -H "Idempotency-Key: $key" -H "Content-Type: application/octet-stream" "$DARKROOM_URL/v1/jobs?top_k=3")"
id="$(sed -nE 's/^\{"id":"(job_[0-9a-f]+)".*/\1/p' <<<"$job")"
echo "submitted as $id" >&2

# The service holds the answer back until the job has ended, for up to a minute; ask again until it has.
until curl --silent --fail --retry 5 --retry-connrefused -H "$auth" -H "Prefer: wait=60" "$DARKROOM_URL/v1/jobs/$id" |
    grep -E '"status":"(succeeded|failed|canceled|expired)"' >/dev/null; do :; done

# Fails with the problem, and exit code 22, if the job has no result.
curl --silent --show-error --fail-with-body --retry 5 -H "$auth" "$DARKROOM_URL/v1/jobs/$id/result"
echo
