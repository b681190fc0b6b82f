#!/bin/sh
# Start the team's MLflow server: runs in PostgreSQL, artifacts through the server, a password for every user.
#
#   STORE      the database of runs and users: postgresql://user:password@host/database
#   ARTIFACTS  the folder or bucket of artifacts: /path or s3://bucket/path
#              for a bucket also AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and if it is not at Amazon, AWS_ENDPOINT_URL
#   PASSWORD   of the user admin, who creates the other users; read when the store is new
#   SECRET     signs the forms of the sign-up page: any long random text, the same on each start
#   HOST PORT  the address to listen on, default 127.0.0.1 and 5000. Another HOST needs EXPOSE=1, HOSTS, and TLS in front
#   HOSTS      the host names that clients use: mlflow.example.org,mlflow.example.org:443
#   ORIGINS    the origins of the server's own pages, default https:// and each of HOSTS
#   WORKERS    the number of processes, default 4
set -eu
: "${STORE:?set it to the database, postgresql://user:password@host/database}"
: "${ARTIFACTS:?set it to the folder or bucket for artifacts}"
: "${PASSWORD:?set a password for the user admin}"
: "${SECRET:?set a long random text}"

HOST=${HOST:-127.0.0.1} PORT=${PORT:-5000} HOSTS=$(printf '%s' "${HOSTS:-}" | tr -d ' ')
refuse() { echo "error: $1. Nothing was started." >&2; exit 1; }
if [ "$HOST" != 127.0.0.1 ]; then
	[ "${EXPOSE:-}" = 1 ] || refuse "HOST=$HOST is reachable from other machines: expected EXPOSE=1, found none"
	[ -n "$HOSTS" ] || refuse "HOST=$HOST is reachable from other machines: expected HOSTS, the host names that clients use, found none"
fi
case ",$HOSTS," in *,\*,*) refuse "HOSTS: expected the host names that clients use, found *" ;; esac
# MLflow's default list contains patterns such as 10.*, which 10.evil.example matches.
: "${ORIGINS:=$(printf '%s' "$HOSTS" | sed 's#[^,]\{1,\}#https://&#g')}"
: "${HOSTS:=localhost,127.0.0.1,localhost:*,127.0.0.1:*}" "${ORIGINS:=http://127.0.0.1:$PORT}"

case "$ARTIFACTS" in s3://*)
	found=$(python -c 'import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
try:
    get_artifact_repository(sys.argv[1]).list_artifacts()
except Exception as error:
    print(str(error).splitlines()[0].rstrip("."))
    sys.exit(1)' "$ARTIFACTS" 2> /dev/null) || refuse "ARTIFACTS=$ARTIFACTS: expected a bucket at AWS_ENDPOINT_URL=${AWS_ENDPOINT_URL:-\
(none: Amazon)} that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY open, found: $found"
esac

umask 077
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT INT TERM
# Python's configparser reads the file and gives % a special meaning.
escaped() { printf '%s' "$1" | sed 's/%/%%/g'; }
cat > "$settings/auth.ini" <<END
[mlflow]
default_permission = EDIT
database_uri = $(escaped "$STORE")
admin_username = admin
admin_password = $(escaped "$PASSWORD")
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Checking a password takes 0.07 s by design, and a pipeline sends a hundred requests. A changed password works after this time.
auth_cache_ttl_seconds = 60
END

export MLFLOW_AUTH_CONFIG_PATH="$settings/auth.ini"
export MLFLOW_FLASK_SERVER_SECRET_KEY="$SECRET"
export MLFLOW_BACKEND_STORE_URI="$STORE"  # not an argument: every user of the machine can read those
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_BASIC_AUTH_FAIL_CLOSED=true  # refuse routes for which MLflow has no permission rule
unset MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE
python -m mlflow server --app-name basic-auth --host "$HOST" --port "$PORT" --workers "${WORKERS:-4}" \
	--artifacts-destination "$ARTIFACTS" --allowed-hosts "$HOSTS" --cors-allowed-origins "$ORIGINS" &
server=$!
trap 'kill "$server"; wait "$server"; rm -rf "$settings"' INT TERM
wait "$server"
