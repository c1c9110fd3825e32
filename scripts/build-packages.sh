#!/usr/bin/env bash
# Builds the packages of this version in a new folder, dist/packages-VERSION or the one that is named: .deb and
# .rpm of server and command line, an archive with the programs for hosts, and SHA256SUMS of them all.
#
# Takes built programs from SERVER_PROGRAMS (target/release) and HOST_PROGRAMS (target/host), which `make packages`
# builds. For tests: PACKAGE_VERSION is another version, PACKAGE_SETTINGS is another server.env,
# PACKAGE_KINDS selects kinds (default: deb rpm archive), and PACKAGE_COMPRESSION=fast makes larger packages in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${PACKAGE_VERSION:-$(bash scripts/show-version.sh)}
folder=${1:-dist/packages-$version}
target=${CARGO_TARGET_DIR:-target}
server_programs=${SERVER_PROGRAMS:-$target/release}
host_programs=${HOST_PROGRAMS:-$target/host}
# xz is what old systems also unpack.
deb_compression=(-Zxz) rpm_payload=w6.xzdio gzip_level=-9
if [ "${PACKAGE_COMPRESSION:-}" = fast ]; then
    deb_compression=(-Zzstd -z1) rpm_payload=w1.zstdio gzip_level=-1
fi

missing=()
command -v dpkg-deb >/dev/null || missing+=(dpkg)
command -v rpmbuild >/dev/null || missing+=(rpm)
command -v strip >/dev/null || missing+=(binutils)
if [ ${#missing[@]} -gt 0 ]; then
    echo "make packages needs these packages of Debian: ${missing[*]}" >&2
    exit 1
fi
if [ -e "$folder" ]; then
    echo "$folder exists already: remove it first, so that no old packages stay in it" >&2
    exit 1
fi
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture=$(dpkg --print-architecture) ;;
esac
# Two builds of the same commit give the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH
umask 022

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$folder"

# install_program FOLDER PROGRAM DESTINATION: without what only a debugger reads. Names of functions stay, for
# the stacks of a panic.
install_program() {
    [ -x "$1/$2" ] || {
        echo "$1/$2 is missing: make packages builds it" >&2
        exit 1
    }
    strip --strip-debug -o "$3" "$1/$2"
    chmod 755 "$3"
}

# Each program is stripped once, and linked into every folder that takes it.
mkdir "$stage/programs"
install_program "$server_programs" muster-server "$stage/programs/muster-server"
install_program "$server_programs" muster "$stage/programs/muster"
install_program "$host_programs" muster-agent "$stage/programs/muster-agent"
install_program "$host_programs" muster-supervisor "$stage/programs/muster-supervisor"

# fill_server ROOT: the files of the server, without documentation.
fill_server() {
    install -d "$1/usr/bin" "$1/usr/lib/muster" "$1/usr/lib/systemd/system" "$1/usr/lib/sysusers.d" "$1/usr/lib/tmpfiles.d"
    # The server gives hosts the agent and the supervisor that are beside it.
    ln "$stage/programs/muster-server" "$stage/programs/muster-agent" "$stage/programs/muster-supervisor" "$1/usr/lib/muster/"
    ln -s ../lib/muster/muster-server "$1/usr/bin/muster-server"
    echo "$version" >"$1/usr/lib/muster/server_version"
    install -m 644 packaging/muster-server.service "$1/usr/lib/systemd/system/"
    install -m 644 packaging/muster-server.sysusers "$1/usr/lib/sysusers.d/muster-server.conf"
    install -m 644 packaging/muster-server.tmpfiles "$1/usr/lib/tmpfiles.d/muster-server.conf"
    install -d -m 750 "$1/etc/muster-server"
    install -m 640 "${PACKAGE_SETTINGS:-packaging/server.env}" "$1/etc/muster-server/server.env"
}

# fill_command_line ROOT ZSH_FOLDER: the program, its manual pages and its completions.
fill_command_line() {
    install -d "$1/usr/bin" "$1/usr/share/man/man1" "$1/usr/share/bash-completion/completions" "$1/usr/share/zsh/$2" \
        "$1/usr/share/fish/vendor_completions.d"
    ln "$stage/programs/muster" "$1/usr/bin/"
    "$stage/programs/muster" man "$1/usr/share/man/man1" >/dev/null
    gzip -9n "$1"/usr/share/man/man1/*.1
    "$stage/programs/muster" completion bash >"$1/usr/share/bash-completion/completions/muster"
    "$stage/programs/muster" completion zsh >"$1/usr/share/zsh/$2/_muster"
    "$stage/programs/muster" completion fish >"$1/usr/share/fish/vendor_completions.d/muster.fish"
}

# build_deb PACKAGE: from its filled root, with documentation where Debian expects it.
build_deb() {
    local package=$1 root=$stage/deb/$1 libraries='' libc kib
    local docs=$root/usr/share/doc/$package
    install -d "$docs" "$root/DEBIAN"
    {
        printf 'Muster %s, %s\nLicensed under MIT or Apache-2.0, at your option.\n\n' "$version" https://github.com/muster-project/muster
        cat LICENSE-MIT
        printf '\n'
        cat LICENSE-APACHE
    } >"$docs/copyright"
    gzip -9nc CHANGELOG.md >"$docs/changelog.gz"
    # The newest version of the C library that a program of the package asks for.
    libc=$(find "$root/usr" -type f -perm -100 -exec objdump -T {} + | grep -o 'GLIBC_2[.0-9]*' | sort -uV | tail -n 1)
    libraries="libc6 (>= ${libc#GLIBC_}), libgcc-s1"
    kib=$(du -sk --apparent-size "$root" | cut -f 1)
    sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@INSTALLED_KIB@/$kib/; s/@LIBRARIES@/$libraries/" \
        "packaging/deb/$package/control" >"$root/DEBIAN/control"
    for file in preinst postinst prerm postrm; do
        [ -e "packaging/deb/$package/$file" ] || continue
        insert_parts <"packaging/deb/$package/$file" >"$root/DEBIAN/$file"
        chmod 755 "$root/DEBIAN/$file"
    done
    [ ! -e "packaging/deb/$package/conffiles" ] || install -m 644 "packaging/deb/$package/conffiles" "$root/DEBIAN/"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    dpkg-deb --root-owner-group "${deb_compression[@]}" --build "$root" "$folder/${package}_${version}_$architecture.deb" >/dev/null
}

# insert_parts: replaces the names of parts in a script or specification by the parts.
insert_parts() {
    sed -e '/@REFUSE_OLDER_VERSION@/{r packaging/refuse_older_version.sh
d}' -e '/@USER@/{r packaging/muster-server.sysusers
d}' | sed -e "s/@VERSION@/$version/g"
}

build_rpms() {
    local root=$stage/rpm package
    for package in muster muster-server; do
        install -d "$root/usr/share/doc/$package" "$root/usr/share/licenses/$package"
        install -m 644 CHANGELOG.md "$root/usr/share/doc/$package/"
        install -m 644 LICENSE-MIT LICENSE-APACHE "$root/usr/share/licenses/$package/"
    done
    insert_parts <packaging/rpm/muster.spec >"$stage/muster.spec"
    rpmbuild -bb --quiet --define "_topdir $stage/rpmbuild" --define "_rpmdir $folder_path" \
        --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" --define "_binary_payload $rpm_payload" \
        --define "staged_files $root" "$stage/muster.spec"
}

# The programs for hosts with the installer: deploy.sh --from installs them without a download.
build_archive() {
    local name
    name=muster-agent-$version-linux-$(uname -m)
    install -d "$stage/archive/$name"
    ln "$stage/programs/muster-agent" "$stage/programs/muster-supervisor" "$stage/archive/$name/"
    install -m 755 deploy.sh "$stage/archive/$name/"
    install -m 644 CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$stage/archive/$name/"
    local options=(--sort=name --owner=0 --group=0 --numeric-owner "--mtime=@$SOURCE_DATE_EPOCH" --hard-dereference)
    tar -C "$stage/archive" "${options[@]}" -c "$name" | gzip -n "$gzip_level" >"$folder/$name.tar.gz"
}

folder_path=$(cd "$folder" && pwd)
for kind in ${PACKAGE_KINDS:-deb rpm archive}; do
    case $kind in
    deb)
        fill_server "$stage/deb/muster-server"
        fill_command_line "$stage/deb/muster" vendor-completions
        build_deb muster-server
        build_deb muster
        ;;
    rpm)
        fill_server "$stage/rpm"
        fill_command_line "$stage/rpm" site-functions
        build_rpms
        ;;
    archive) build_archive ;;
    esac
done
(cd "$folder" && sha256sum muster* >SHA256SUMS)
(cd "$folder" && stat --format='%12s  %n' muster*)
