# Installs the packages of a package.json into a new folder: INTERPRETER FOLDER PACKAGE_JSON.
set -eu
umask 077
command -v npm >/dev/null 2>&1 || {
    echo "npm is missing: install it on this host" >&2
    exit 1
}
cd "$2"
# Scripts can write the configuration of their user, and would decide where others' packages come from.
export NPM_CONFIG_USERCONFIG="${NPM_CONFIG_USERCONFIG-/dev/null}"
# Code of a package runs when a script uses it, and not during the installation, unless the host says so.
export NPM_CONFIG_IGNORE_SCRIPTS="${NPM_CONFIG_IGNORE_SCRIPTS-true}"
export NPM_CONFIG_CACHE="$2/.npm" NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_FUND=false NPM_CONFIG_AUDIT=false
npm install --omit=dev --no-package-lock --no-progress
rm -rf "$2/.npm"
[ -d node_modules ]
