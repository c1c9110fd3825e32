#!/usr/bin/env bash
# Builds both container images from their Dockerfiles without a container engine, and runs the tests of
# containers on what comes of it. Needs root, and buildah and debootstrap, which it installs on Debian.
#
# No registry of images is asked: those that ours are from are made here, Debian's from its packages, Rust's
# and Node's from that and this machine's toolchain. Crates are those that were downloaded already.
# SERVER_PROFILE and HOST_PROFILE (dev) are those of the Dockerfiles; the real ones take long.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "make images-check mounts file systems and becomes other users: run it as root" >&2
    exit 1
fi
missing=()
for program in buildah debootstrap; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

place=${CARGO_TARGET_DIR:-$PWD/target}/images
version=$(bash scripts/show-version.sh)
debian=localhost/debian:bookworm-slim
rust=localhost/rust:$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)-slim-bookworm
sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# The store is thrown away. What is kept is the Debian that took a download, and what was compiled, which
# would not fit into the layers of a store that copies each whole: `rm -r target/images` when done.
store() { buildah --root "$place/store" --runroot "$place/run" --storage-driver vfs "$@"; }
clean_up() {
    store umount --all >/dev/null 2>&1 || true
    store rm --all >/dev/null 2>&1 || true
    rm -rf "$place/store" "$place/run" "$place/roots"
}
trap clean_up EXIT
clean_up
mkdir -p "$place/roots" "$place/built"

if [ ! -e "$place/debian/complete" ]; then
    rm -rf "$place/debian"
    debootstrap --variant=minbase bookworm "$place/debian" >"$place/debootstrap.log"
    : >"$place/debian/complete"
fi
echo "making $debian of Debian's packages"
container=$(store from scratch)
store add --quiet "$container" "$place/debian" / >/dev/null
store run --isolation chroot "$container" -- rm -f /complete
store commit --quiet --format docker "$container" "$debian" >/dev/null
store rm "$container" >/dev/null

echo "making $rust of that and this machine's toolchain"
container=$(store from --pull-never "$debian")
store run --isolation chroot "$container" -- sh -c \
    'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev' >/dev/null
store config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env CARGO_HOME=/usr/local/cargo --env CARGO_NET_OFFLINE=true "$container"
store commit --quiet --format docker "$container" "$rust" >/dev/null
store rm "$container" >/dev/null

node=localhost/node:20-bookworm-slim
echo "making $node of that and this machine's Node"
container=$(store from --pull-never "$debian")
store add --quiet "$container" "$(realpath "$(command -v node)")" /usr/local/bin/node >/dev/null
store add --quiet "$container" "$(dirname "$(realpath "$(command -v npm)")")/.." /usr/local/lib/node_modules/npm >/dev/null
store run --isolation chroot "$container" -- ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
store config --env "npm_config_registry=$(npm config get registry)" "$container"
store commit --quiet --format docker "$container" "$node" >/dev/null
store rm "$container" >/dev/null

for part in server agent; do
    echo "building Dockerfile.$part"
    store build --quiet --isolation chroot --pull-never --format docker --layers=false \
        --volume "$sysroot:/usr/local/rust:ro" \
        --volume "$cargo_home/registry:/usr/local/cargo/registry:ro" \
        --volume "$place/built:/src/target" \
        --build-arg "SERVER_PROFILE=${SERVER_PROFILE:-dev}" --build-arg "HOST_PROFILE=${HOST_PROFILE:-dev}" \
        --build-arg "VERSION=$version" --file "Dockerfile.$part" --tag "muster-$part:$version" . >"$place/$part.log" 2>&1 ||
        { tail -n 40 "$place/$part.log" >&2; exit 1; }
    store inspect --type image --format '{{.Docker.Config.User}} {{.Docker.Config.Entrypoint}} {{.Docker.Config.Volumes}} {{.Docker.Config.Healthcheck.Test}} {{index .Docker.Config.Labels "org.opencontainers.image.version"}}{{println}}' "muster-$part:$version"
    container=$(store from --pull-never "muster-$part:$version")
    ln -sfn "$(store mount "$container")" "$place/roots/$part"
    du -sh "$place/roots/$part/usr/lib/muster"
done

echo "running containers of them"
MUSTER_IMAGES=$place/roots cargo nextest run --workspace --bins --tests --locked -E 'test(/^operations::images::(agent|server|volumes)::/)'
