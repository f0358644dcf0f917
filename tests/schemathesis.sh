#!/bin/sh
# Calls every operation with generated data, valid and invalid, as admin, and holds every answer against the API description.
# Needs schemathesis (PyPI) as $SCHEMATHESIS or on the path, and the agent as $AGENT.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
agent=${AGENT:-$here/../target/debug/nodeaudit}
agent=$(realpath "$agent")
work=$(mktemp -d)
cd "$work"
"$agent" serve --dev --listen 127.0.0.1:0 >out 2>err &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf "$work"' EXIT
until url=$(grep -o 'http://[0-9.:]*' out | head -n 1) && [ -n "$url" ]; do kill -0 $pid; done
token=$("$agent" token issue --dev --subject schemathesis@example.com --role admin --ttl 1h)
"${SCHEMATHESIS:-schemathesis}" --config-file "$here/schemathesis.toml" run "$url/openapi.json" \
  -H "Authorization: Bearer $token" -c all --mode all --phases examples,coverage,fuzzing \
  --max-examples "${EXAMPLES:-50}" --continue-on-failure --no-color
