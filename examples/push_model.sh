#!/usr/bin/env bash
# Registers a model with curl (7.76 or later), sha256sum and python3, without credentials of Postgres or S3. Waits for the trial.
# The key needs the scopes `admin` and `read`.
#
#   DARKROOM_URL=… DARKROOM_API_KEY=… examples/push_model.sh resnet/ [ALIAS]
#
# Exit codes: 0 ready, 1 rejected, 3 no worker has decided, 22 the request was refused.
set -euo pipefail
folder="$1" alias="${2:-}"
auth="Authorization: Bearer $DARKROOM_API_KEY"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# Runs Python with `body`, the JSON on standard input.
with_json() { python3 -c "import json, sys; body = json.loads(sys.stdin.buffer.read().decode('utf-8-sig')); $1"; }

name="$(with_json 'print(body["name"])' <"$folder/model.json")"
versions="$DARKROOM_URL/v1/models/$name/versions"

# The digest and the length of each file that the manifest names: artifact, artifacts for other devices, labels.
named='files = [body["artifact"], *body.get("artifacts", {}).values(), body.get("labels")]; print(*{*files} - {None}, sep="\n")'
with_json "$named" <"$folder/model.json" | while read -r file; do
    sha256="$(sha256sum <"$folder/$file")"
    printf '%s %d %s\n' "${sha256%% *}" "$(wc -c <"$folder/$file")" "$file"
done >"$scratch/files"

python3 - "$folder/model.json" "$scratch/files" "$alias" >"$scratch/request.json" <<'PYTHON'
import json, sys

manifest, files, alias = sys.argv[1:]
request = {"manifest": json.load(open(manifest, encoding="utf-8-sig")), "files": {}}
for line in open(files, encoding="utf-8"):
    sha256, size, name = line.rstrip("\n").split(" ", 2)
    request["files"][name] = {"sha256": f"sha256:{sha256}", "bytes": int(size)}
if alias:
    request["alias"] = alias
json.dump(request, sys.stdout)
PYTHON

# 202: the service lacks files. Each round uploads them and repeats the request, which is safe.
for _ in 1 2 3 4; do
    status="$(curl --silent --show-error --retry 5 --retry-connrefused -H "$auth" -H "Content-Type: application/json" \
        --data-binary "@$scratch/request.json" --output "$scratch/answer.json" --write-out '%{http_code}' "$versions")"
    [ "$status" = 202 ] || break
    # One line for each file: number, name, URL. The signed headers are in the file NUMBER.headers.
    python3 - "$scratch" >"$scratch/uploads" <<'PYTHON'
import json, sys

scratch = sys.argv[1]
for number, upload in enumerate(json.load(open(f"{scratch}/answer.json"))["uploads"]):
    with open(f"{scratch}/{number}.headers", "w") as headers:
        headers.writelines(f"{name}: {value}\n" for name, value in upload["headers"].items())
    print(number, upload["file"], upload["url"], sep="\t")
PYTHON
    while IFS=$'\t' read -r number file url; do
        echo "uploading $file" >&2
        # The URL is signed: the object store must not get the API key.
        curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused -H "@$scratch/$number.headers" \
            --upload-file "$folder/$file" "$url" >&2
    done <"$scratch/uploads"
done
# 201: registered now. 200: registered before. Anything else is a problem; its `errors` name every mistake.
if [ "$status" != 200 ] && [ "$status" != 201 ]; then
    cat "$scratch/answer.json" >&2
    exit 22
fi

# The version takes jobs, and the alias moves, when a worker has loaded the version: ten minutes at most are waited for here.
version="$(with_json 'print(body["version"])' <"$scratch/answer.json")"
pushed="next(one for one in body['data'] if one['version'] == $version)"
for _ in $(seq 300); do
    curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused -H "$auth" "$versions" >"$scratch/versions.json"
    state="$(with_json "print(${pushed}['state'])" <"$scratch/versions.json")"
    [ "$state" = validating ] || break
    sleep 2
done
echo "$name:$version is $state"
case "$state" in
ready) ;;
validating) exit 3 ;;
*) with_json "print(${pushed}.get('state_cause'))" <"$scratch/versions.json" >&2 && exit 1 ;;
esac
