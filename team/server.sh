#!/bin/sh
# The team's MLflow server: PostgreSQL behind it, artifacts through it, a password before it.
#
#   STORE      where runs and users are kept: postgresql://user:password@host/database
#   ARTIFACTS  where artifacts are kept: a folder, or s3://bucket/path
#   PASSWORD   of the user admin, who makes the others; read when the store is new
#   SECRET     signs the forms of the sign-up page: any long random text, the same on each start
#   HOST PORT  where it listens, 127.0.0.1 and 5000 unless told; elsewhere only with EXPOSE=1 and HOSTS, and TLS in front
#   HOSTS      the names that it is asked by from elsewhere: mlflow.example.org,mlflow.example.org:443
#   ORIGINS    where browsers find its pages, https:// and each of HOSTS unless told
#   WORKERS    processes that answer, 4 unless told
set -eu
: "${STORE:?the database, postgresql://user:password@host/database}"
: "${ARTIFACTS:?the folder or bucket for artifacts}"
: "${PASSWORD:?a password for the user admin}"
: "${SECRET:?a long random text}"

HOST=${HOST:-127.0.0.1} PORT=${PORT:-5000} HOSTS=$(printf '%s' "${HOSTS:-}" | tr -d ' ')
refuse() { echo "error: $1. Nothing was started." >&2; exit 1; }
if [ "$HOST" != 127.0.0.1 ]; then
	[ "${EXPOSE:-}" = 1 ] || refuse "HOST=$HOST reaches beyond this machine: expected EXPOSE=1 as well, found none"
	[ -n "$HOSTS" ] || refuse "HOST=$HOST reaches beyond this machine: expected HOSTS, the names that it is asked by, found none"
fi
case ",$HOSTS," in *,\*,*) refuse "HOSTS: expected the names that it is asked by, found any" ;; esac
# MLflow's own list has 10.* and the like, which 10.evil.example matches, and its pages post from where they were had.
: "${ORIGINS:=$(printf '%s' "$HOSTS" | sed 's#[^,]\{1,\}#https://&#g')}"
: "${HOSTS:=localhost,127.0.0.1,localhost:*,127.0.0.1:*}" "${ORIGINS:=http://127.0.0.1:$PORT}"

umask 077
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT INT TERM
# The file is read by Python's configparser, to which % is a sign of its own.
escaped() { printf '%s' "$1" | sed 's/%/%%/g'; }
cat > "$settings/auth.ini" <<END
[mlflow]
default_permission = EDIT
database_uri = $(escaped "$STORE")
admin_username = admin
admin_password = $(escaped "$PASSWORD")
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Checking a password takes 0.07 s, by intent, and a pipeline asks a hundred times. A changed one holds after so many seconds.
auth_cache_ttl_seconds = 60
END

export MLFLOW_AUTH_CONFIG_PATH="$settings/auth.ini"
export MLFLOW_FLASK_SERVER_SECRET_KEY="$SECRET"
export MLFLOW_BACKEND_STORE_URI="$STORE"  # not an argument, which every user of the machine could read
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_BASIC_AUTH_FAIL_CLOSED=true  # refuse on a route for which MLflow has no rule who may
unset MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE
python -m mlflow server --app-name basic-auth --host "$HOST" --port "$PORT" --workers "${WORKERS:-4}" \
	--artifacts-destination "$ARTIFACTS" --allowed-hosts "$HOSTS" --cors-allowed-origins "$ORIGINS" &
server=$!
trap 'kill "$server"; wait "$server"; rm -rf "$settings"' INT TERM
wait "$server"
