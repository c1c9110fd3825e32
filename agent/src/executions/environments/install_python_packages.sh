# Installs packages into a new environment of Python: INTERPRETER FOLDER REQUIREMENTS.
# What the host sets for pip holds for uv too.
set -eu
umask 077
# Scripts can write the configuration files of their user, and would decide where others' packages come from.
export PIP_CONFIG_FILE="${PIP_CONFIG_FILE-/dev/null}"
[ -n "${UV_CONFIG_FILE-}" ] || export UV_NO_CONFIG=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_NO_PROGRESS=1
if command -v uv >/dev/null 2>&1; then
    [ -n "${UV_INDEX_URL-}${UV_DEFAULT_INDEX-}" ] || [ -z "${PIP_INDEX_URL-}" ] || export UV_INDEX_URL="$PIP_INDEX_URL"
    [ -n "${UV_EXTRA_INDEX_URL-}" ] || [ -z "${PIP_EXTRA_INDEX_URL-}" ] || export UV_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL"
    [ -n "${UV_INSECURE_HOST-}" ] || [ -z "${PIP_TRUSTED_HOST-}" ] || export UV_INSECURE_HOST="$PIP_TRUSTED_HOST"
    [ -n "${UV_FIND_LINKS-}" ] || [ -z "${PIP_FIND_LINKS-}" ] || export UV_FIND_LINKS="$PIP_FIND_LINKS"
    uv venv --quiet --python "$1" --no-python-downloads --allow-existing "$2"
    exec uv pip install --python "$2/bin/python" --requirement "$3"
fi
"$1" -m venv "$2" || {
    echo "Python's module venv is missing: install python3-venv, or uv, on this host" >&2
    exit 1
}
exec "$2/bin/python" -m pip install --progress-bar off --requirement "$3"
