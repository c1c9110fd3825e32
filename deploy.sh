#!/bin/sh
# Installs Muster's agent on this host and looks after it: `deploy.sh --help` says how.
#
# POSIX sh. Everything is a function and the last line calls the first one, so that half a download
# does nothing. The sections: words, places, fetching, settings, service managers, installing,
# looking after, containers.
set -eu
umask 077
server_default=''
script_version=''

usage() {
    cat <<'TEXT'
Installs Muster's agent on this host and looks after it.

  deploy.sh --key KEY [--server URL]     install, or bring an installation up to date
  deploy.sh --status                     what the agent does; exit 0 only if it is connected
  deploy.sh --logs                       follow its log
  deploy.sh --update [--version V]       have the agent become the version that the server has for
                                         it, or V, and wait for what comes of it; jobs go on
  deploy.sh --stop [--kill-executions]         stop it; what it runs goes on unless --kill-executions
  deploy.sh --start                      start it again as it is
  deploy.sh --uninstall [--keep-state]   deregister it and remove everything

Installing:
  --key KEY          the agent key; better in a file, as command lines can be seen on a host
  --key-file FILE    a file that holds the key and nothing else; - for standard input, if the
                     script itself does not come from there. Without either a terminal is asked
  --server URL       https://…, wss://…; not needed when the script came from the server
  --user             for this user only, without root, in ~/.muster
  --dir DIR          everything in one folder instead of /opt, /etc, /var/lib and /var/log
  --allow WHAT       what the server may ask for: manifest (default: only scripts that this host
                     lists), library (also the server's library), shell (also any command)
  --run-as USER      scripts run as this user [default: muster, made if missing; not with --user]
  --insecure         allow http:// and ws:// to another host: the key can be read on the way
  --ca FILE          certificates (PEM) to trust beside the host's own
  --version V        take this version and no other; needed to go back to an older one
  --release-key FP   trust releases that the key with this fingerprint has signed, and no others;
                     without it, the first key that comes over https://
  --from DIR         take the programs from a folder of a local build, not from the server
  --docker           in a container, or not at all; the default where a Docker engine answers.
                     Scripts then see only the container
  --native           as a service of the host; the default where no engine answers
  --image IMAGE      of the container [default: muster-agent:VERSION]
  --yes              change the server, the key or the release key of an existing installation
                     without asking

HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY of the environment are used and kept for the agent.
TEXT
}

main() {
    read_words "$@"
    find_place
    choose_way
    case $way:$action in
    docker:install) install_container ;;
    docker:*) look_after_container ;;
    *:install) install_agent ;;
    *:status) show_status ;;
    *:logs) follow_logs ;;
    *:update) update_agent ;;
    *:stop) stop_agent ;;
    *:start) start_agent ;;
    *:uninstall) uninstall_agent ;;
    esac
}

# ---- words -------------------------------------------------------------------------------------

die() {
    printf 'deploy.sh: %s\n' "$*" >&2
    exit 1
}

misuse() {
    printf 'deploy.sh: %s; see deploy.sh --help\n' "$*" >&2
    exit 2
}

say() { printf '  %s\n' "$*"; }

has() { command -v "$1" >/dev/null 2>&1; }

read_words() {
    action='' key='' key_file='' server='' scope='' dir='' allow='' run_as='' insecure='' ca=''
    version='' release_key='' from='' way='' image='' yes='' kill_executions='' keep_state=''
    while [ $# -gt 0 ]; do
        word=$1
        shift
        case $word in
        --*=*)
            set -- "${word#*=}" "$@"
            word=${word%%=*}
            ;;
        esac
        case $word in
        --key | --key-file | --server | --dir | --allow | --run-as | --ca | --version | --release-key | --from | --image)
            [ $# -gt 0 ] || misuse "$word needs a value"
            value=$1
            shift
            [ -n "$value" ] || misuse "$word needs a value"
            ;;
        esac
        case $word in
        --key) key=$value ;;
        --key-file) key_file=$value ;;
        --server) server=$value ;;
        --dir) dir=$value ;;
        --allow) allow=$value ;;
        --run-as) run_as=$value ;;
        --ca) ca=$value ;;
        --version) version=$value ;;
        --release-key) release_key=$value ;;
        --from) from=$value ;;
        --user) scope=user ;;
        --insecure) insecure=1 ;;
        --yes) yes=1 ;;
        --kill-executions) kill_executions=1 ;;
        --keep-state) keep_state=1 ;;
        --image) image=$value ;;
        --docker | --native)
            [ -z "$way" ] || [ "$way" = "${word#--}" ] || misuse "--docker and --native exclude each other"
            way=${word#--}
            ;;
        --status | --logs | --update | --start | --stop | --uninstall)
            [ -z "$action" ] || misuse "$word and --$action exclude each other"
            action=${word#--}
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) misuse "there is no option '$word'" ;;
        esac
    done
    [ -z "$key" ] || [ -z "$key_file" ] || misuse "--key and --key-file exclude each other"
    case $allow in
    '' | manifest | library | shell) ;;
    *) misuse "--allow takes manifest, library or shell, not '$allow'" ;;
    esac
    [ -z "$action" ] || [ -z "$key$key_file" ] || misuse "--$action takes no key"
    [ -z "$kill_executions" ] || [ "$action" = stop ] || [ "$action" = uninstall ] ||
        misuse "--kill-executions goes with --stop or --uninstall"
    [ -z "$keep_state" ] || [ "$action" = uninstall ] || misuse "--keep-state goes with --uninstall"
    action=${action:-install}
    case $version in
    '') ;;
    *[!0-9A-Za-z.+-]* | [!0-9]* | *..*) misuse "--version takes a version such as 0.2.0, not '$version'" ;;
    esac
    case $action in
    install) ;;
    update) [ -z "$release_key$from" ] || misuse "--update takes --version alone: --release-key and --from go with installing" ;;
    *) [ -z "$version$release_key$from" ] || misuse "--$action takes neither --version nor --release-key nor --from" ;;
    esac
    case $image in -* | *[!A-Za-z0-9._/:@-]*) misuse "--image takes the name of an image such as registry.example.com/muster-agent:0.2.0, not '$image'" ;; esac
    read_release_key
    if [ "$scope" = user ] && [ -n "$run_as" ]; then
        misuse "--run-as needs a system installation: as an ordinary user scripts run as that user"
    fi
    case $run_as in *[!A-Za-z0-9_.-]*) misuse "--run-as takes the name of a user" ;; esac
}

# The fingerprint as the programs write it: 64 hex digits, small ones.
read_release_key() {
    release_key=$(printf %s "$release_key" | tr 'ABCDEF' 'abcdef')
    case $release_key in
    '') return 0 ;;
    *[!0-9a-f]*) ;;
    *) [ ${#release_key} != 64 ] || return 0 ;;
    esac
    misuse "--release-key takes the fingerprint that 'muster release keygen' says, 64 hex digits"
}

# ---- places ------------------------------------------------------------------------------------

# Where the installation is, or is to be. A copy of this script that lies in an installation means
# that one.
find_place() {
    if [ -z "$dir$scope" ] && is_file; then
        own_folder=$(cd "$(dirname "$0")" && pwd)
        if [ -f "$own_folder/installation" ]; then
            dir=$own_folder
            scope=$(recorded scope "$own_folder")
            case $scope:$dir in system:/opt/muster | user:"${HOME:-}/.muster") dir='' ;; esac
        fi
    fi
    # Without root there may be an installation of this user to look after.
    if [ -z "$scope" ] && [ "$(id -u)" != 0 ] && [ "$action" != install ] && [ -z "$dir" ] &&
        [ -f "${HOME:-/nonexistent}/.muster/installation" ]; then
        scope=user
    fi
    scope=${scope:-system}
    [ "$scope" = user ] || [ "$(id -u)" = 0 ] ||
        if [ "$action" = install ]; then
            die "a system installation needs root: put sudo before sh, or say --user to install for this user only"
        else
            die "this needs root, as the agent was installed for the system: put sudo before it"
        fi
    if [ -n "$dir" ]; then
        case $dir in
        /*) ;;
        *) dir=$(pwd)/$dir ;;
        esac
        dir=$(real_path "$dir")
        case $dir in
        '') die "--dir needs a folder of its own" ;;
        */./* | */../* | */. | */..) die "the folder '$dir' can't be resolved: give its plain path with --dir" ;;
        esac
        case $scope:$dir in system:/opt/muster | user:"$(real_path "${HOME:-/}/.muster")") dir='' ;; esac
    fi
    name=muster-agent
    if [ "$scope" = system ] && [ -z "$dir" ]; then
        program=/opt/muster settings=/etc/muster state=/var/lib/muster logs=/var/log/muster
    else
        if [ -z "$dir" ]; then
            [ -n "${HOME:-}" ] || die "HOME is not set, so there is no place for --user: set it, or say --dir DIR"
            dir=$(real_path "$HOME/.muster")
        else
            # Several may stand side by side, each with a service of its own.
            name=muster-agent-$(printf %s "$dir" | cksum | cut -d' ' -f1)
        fi
        program=$dir settings=$dir/etc state=$dir/state logs=$dir/log
    fi
    case $program in
    *[!A-Za-z0-9_./+@-]*) die "the folder '$program' has characters that service managers stumble over: choose another with --dir" ;;
    esac
    bin=$program/versions/current/bin
    ! is_installed || name=$(recorded name)
}

# True if this script was read from a file. Piped into a shell, $0 is that shell's name, and a file
# of that name in the working folder is anybody's.
is_file() {
    case $0 in */* | *.sh) [ -f "$0" ] && grep -q '^server_default=' "$0" 2>/dev/null ;; *) false ;; esac
}

# real_path PATH: without links, as the kernel names a program that runs from there.
real_path() {
    near=$1 rest=''
    while [ ! -d "$near" ]; do
        rest=/${near##*/}$rest
        near=${near%/*}
        near=${near:-/}
    done
    near=$(CDPATH='' cd -P -- "$near" && pwd -P) || return 1
    near=${near%/}$rest
    printf %s "${near%/}"
}

# Root must not run programs that another user can replace.
check_owners() {
    [ "$scope" = system ] || return 0
    near=$program
    while [ -n "$near" ]; do
        if [ -d "$near" ]; then
            # shellcheck disable=SC2012 # stat is not everywhere
            said=$(ls -ldn "$near" | awk '{ print $1, $3, $4 }')
            case $said in
            ?????????[tT]*' 0 '*) ;;
            ????????w*' '*) die "everybody can write to $near, and what lies below it would run as root: choose another folder with --dir" ;;
            ?????w*' 0 0') ;;
            ?????w*) die "a group can write to $near, and what lies below it would run as root: choose another folder with --dir" ;;
            *' 0 '*) ;;
            *) die "$near belongs to another user, and what lies below it would run as root: choose another folder with --dir" ;;
            esac
        fi
        near=${near%/*}
    done
}

# recorded WORD [FOLDER]: what the installation remembers of itself.
recorded() { sed -n "s/^$1=//p" "${2:-$program}/installation" 2>/dev/null || true; }

is_installed() { [ -f "$program/installation" ]; }

need_installation() {
    is_installed || die "no agent is installed in $program: install it with --key, or name its folder with --dir"
    service=$(recorded service)
    case $service in
    systemd | openrc | runit | cron | none | docker) ;;
    *) die "$program/installation is damaged: it names no service" ;;
    esac
    # shellcheck disable=SC2012 # stat is not everywhere
    owner=$(ls -ld "$program/installation" | awk '{ print $3 }')
    [ "$scope" = system ] || [ -O "$program/installation" ] || die "this installation is $owner's: run it as that user"
    has_layout=$(recorded layout)
    [ "$has_layout" = 1 ] || die "the installation in $program was made by another version of this script: use $program/deploy.sh"
}

# ---- fetching ----------------------------------------------------------------------------------

platform_name() {
    system=$(uname -s | tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz')
    processor=$(uname -m)
    case $system in
    linux) ;;
    *) die "there is no agent for $(uname -s) yet: it runs on Linux" ;;
    esac
    case $processor in
    amd64) processor=x86_64 ;;
    arm64) processor=aarch64 ;;
    armv7l) processor=armv7 ;;
    i386 | i586) processor=i686 ;;
    ppc64le) processor=powerpc64le ;;
    esac
    platform=$system-$processor
}

# Sets server (as the agent takes it) and web (for downloads), or says what is wrong.
settle_server() {
    [ -n "$server" ] || server=$(kept_setting MUSTER_SERVER_URL)
    [ -n "$server" ] || server=$server_default
    [ -n "$server" ] || die "no server: name it with --server https://muster.example.com"
    server=${server%/}
    case $server in
    https://* | wss://*) is_clear='' ;;
    http://* | ws://*) is_clear=1 ;;
    *://*) die "the server's address begins with ${server%%://*}://: use https:// or wss://" ;;
    *) die "the server's address '$server' has no https:// or wss:// before it" ;;
    esac
    rest=${server#*://}
    case $rest in
    '' | *[!A-Za-z0-9.:/_~-]*)
        case $rest in
        '['*']'*) ;;
        *) die "the server's address '$server' is no address: use one such as https://muster.example.com" ;;
        esac
        ;;
    esac
    if [ -n "$is_clear" ] && [ -z "$insecure" ] && [ -z "$(kept_setting MUSTER_INSECURE)" ]; then
        host=${rest%%/*}
        case $host in '[::1]' | '[::1]:'*) host=localhost ;; esac
        host=${host%%:*}
        case $host in
        127.*[!0-9.]*) clear_way ;;
        localhost | 127.*) ;;
        *) clear_way ;;
        esac
    fi
    case $server in
    wss://*) web=https://${server#wss://} ;;
    ws://*) web=http://${server#ws://} ;;
    *) web=$server ;;
    esac
}

clear_way() {
    die "$server is not encrypted, so that the key could be read on the way: use https://, or allow it with --insecure"
}

# Sets bundle, for downloads: the host's authorities and the given ones.
settle_bundle() {
    bundle=''
    if [ -n "$ca" ]; then
        grep -q -e '-----BEGIN CERTIFICATE-----' "$ca" 2>/dev/null || die "$ca holds no certificate in PEM form, or can't be read"
        given=$ca
    elif [ -f "$settings/ca.pem" ]; then
        given=$settings/ca.pem
    else
        return 0
    fi
    bundle=$staging/authorities.pem
    for known in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem; do
        if [ -r "$known" ]; then
            cat "$known" >"$bundle"
            break
        fi
    done
    cat "$given" >>"$bundle"
}

# fetch PATH FILE: from the server. Says why not in one line and fails.
fetch() {
    if has curl; then
        trouble=0
        status=$(curl -fsS --connect-timeout 15 --max-time 600 --retry 2 ${bundle:+--cacert "$bundle"} -o "$2" -w '%{http_code}' "$web$1" 2>"$staging/curl") || trouble=$?
        reason=$(sed -n 's/^curl: ([0-9]*) //p' "$staging/curl" | tail -n 1 | cut -c 1-160)
        case $trouble in
        0)
            case $status in 3??) die "$web redirects to another address: give that one with --server" ;; esac
            return 0
            ;;
        5) die "the proxy's name can't be resolved: check HTTPS_PROXY" ;;
        6) die "the name in $web can't be resolved: check the address and this host's DNS" ;;
        7) die "$web can't be reached ($reason): check the address, the port, the firewall and HTTPS_PROXY" ;;
        22) refused "$1" "$status" ;;
        23) die "there is no space left to store the download in $program" ;;
        28) die "$web does not answer: check the address, the firewall and HTTPS_PROXY" ;;
        35 | 51 | 58 | 60) die "the certificate of $web is not trusted: give the certificate of its authority with --ca FILE ($reason)" ;;
        56)
            case $reason in
            *CONNECT* | *proxy*) die "the proxy refused the way to $web ($reason): check user and password in HTTPS_PROXY" ;;
            *) die "the connection to $web broke ($reason): try again" ;;
            esac
            ;;
        77) die "the certificates in $ca can't be read: give a PEM file with --ca" ;;
        *) die "$web$1 can't be loaded: $reason" ;;
        esac
    elif has wget; then
        # Its kinds tell their troubles in different ways.
        wget -nv -T 60 ${bundle:+--ca-certificate="$bundle"} -O "$2" "$web$1" 2>"$staging/wget" && return 0
        grep -q 404 "$staging/wget" && refused "$1" 404
        die "$web$1 can't be loaded: $(tail -n 1 "$staging/wget" | cut -c 1-200)"
    else
        die "neither curl nor wget is here: install one of them"
    fi
}

# refused PATH STATUS: the server answered, but not with the file.
refused() {
    case $1:$2 in
    /install/*:404) die "$web has no agent for $platform: put its programs into install/$platform/ of the server's data directory, or check the address" ;;
    *) die "$web answered ${2:-with an error} for $1: check that this is a Muster server" ;;
    esac
}

sum_of() {
    if has sha256sum; then
        sha256sum "$1"
    elif has shasum; then
        shasum -a 256 "$1"
    else
        openssl dgst -sha256 -r "$1"
    fi | cut -d' ' -f1
}

# Puts both programs into the staging folder, checked. Where a key is trusted and programs are here that
# can verify a release, nothing that is not verified runs: `settle_release` has those fetch it.
fetch_programs() {
    mkdir -p "$staging/bin"
    pinned=$(cat "$program/release_key" 2>/dev/null || true)
    tools=$staging/bin
    if [ -z "$from" ] && [ -n "$release_key$pinned" ] && [ -z "$is_new" ] && "$bin/muster-supervisor" verify-release --help >/dev/null 2>&1; then
        tools=$bin new_version=''
        return 0
    fi
    if [ -n "$from" ]; then
        for file in muster-agent muster-supervisor; do
            [ -f "$from/$file" ] || die "$from has no $file: build it first, or leave --from out"
            cp "$from/$file" "$staging/bin/$file" || die "there is no space to copy $file into $program"
        done
    else
        has sha256sum || has shasum || has openssl ||
            die "neither sha256sum, shasum nor openssl is here: install one of them"
        say "loading the programs for $platform from $web"
        fetch "/install/$platform/SHA256SUMS" "$staging/sums"
        for file in muster-agent muster-supervisor; do
            wanted=$(sed -n "s/^\([0-9a-f]\{64\}\)  $file\$/\1/p" "$staging/sums")
            [ -n "$wanted" ] || die "$web says no checksum of $file: check that this is a Muster server"
            fetch "/install/$platform/$file" "$staging/bin/$file"
            [ "$(sum_of "$staging/bin/$file")" = "$wanted" ] ||
                die "the checksum of $file is wrong, so it is not installed: try again, and if it stays so, look for what changes downloads on the way"
        done
    fi
    read_new_version
}

# Sets new_version: what the staged programs say of themselves, which shows that they run here.
read_new_version() {
    chmod 755 "$staging/bin/muster-agent" "$staging/bin/muster-supervisor"
    new_version=$("$staging/bin/muster-agent" version 2>/dev/null | sed -n 's/^muster-agent //p') || true
    if [ -z "$new_version" ]; then
        printf '#!/bin/sh\n' >"$staging/bin/try" && chmod 755 "$staging/bin/try"
        "$staging/bin/try" 2>/dev/null ||
            die "programs can't be run from $program (its disk is mounted noexec): choose another folder with --dir"
        die "the program for $platform does not run on this host: it was built for another processor or C library (see ldd --version here and on the build host)"
    fi
}

# If the programs are of a published release, or one is asked for by its version: has Muster's own
# programs fetch and verify it, and takes those. Sets new_key and new_floor, to be pinned.
settle_release() {
    new_key='' new_floor=''
    # Without either the newest is meant.
    wanted=${version:-$new_version}
    if [ -n "$from" ]; then
        # Nobody signs a local build; whoever installs it vouches for it.
        [ "$wanted" = "$new_version" ] || die "version $version is not to be had: $from offers $new_version"
        new_key=$release_key
        return 0
    fi
    if ! "$tools/muster-supervisor" verify-release --help >/dev/null 2>&1; then
        [ -z "$release_key$pinned" ] || die "$new_version, which $web offers, is older than signed releases and can verify none: publish a newer one, or take a local build with --from"
        [ "$wanted" = "$new_version" ] || die "version $version is not to be had: $web offers $new_version"
        return 0
    fi
    release=$staging/release
    mkdir -p "$release/bin"
    # What is there already is not loaded again. A copy, as a download may go on in it.
    [ -z "$new_version" ] || [ "$wanted" != "$new_version" ] || cp "$staging/bin/muster-agent" "$staging/bin/muster-supervisor" "$release/bin/"
    # It goes on for as long as bytes come, however few.
    bounded=''
    ! has timeout || bounded='timeout 900'
    # shellcheck disable=SC2086 # words
    wanted=$(with_settings "$staging/etc" $bounded "$tools/muster-agent" fetch-release ${wanted:+--version "$wanted"} --into "$release" 2>"$staging/fetched") || {
        wanted=${version:-$new_version}
        if ! grep -qs '"code":"no_release"' "$release/fetch_error.json"; then
            die "${wanted:+release }${wanted:-the newest release} can't be loaded: $(sed -n 's/^muster-agent: //p' "$staging/fetched" | tail -n 1)"
        fi
        [ "$wanted" = "$new_version" ] || die "version $version is not to be had: $web has published no such release${new_version:+, and offers $new_version}"
        [ -z "$release_key$pinned" ] || die "$web has published no release $new_version, and this host takes signed ones only: publish it, or take a local build with --from"
        return 0
    }
    any_key=''
    [ -n "$release_key$pinned" ] || case $web in https://*) ;; *) any_key=1 ;; esac
    verdict=$("$tools/muster-supervisor" verify-release --folder "$release" --version "$wanted" --dir "$program" ${release_key:+--release-key "$release_key"} ${any_key:+--any-key} 2>&1) ||
        die "release $wanted is not installed: $(printf '%s\n' "$verdict" | tail -n 1)"
    mv "$release/bin/muster-agent" "$release/bin/muster-supervisor" "$staging/bin/"
    read_new_version
    if [ -z "$any_key" ]; then
        new_key=$(printf '%s\n' "$verdict" | sed -n 's/^key=//p')
        new_floor=$(printf '%s\n' "$verdict" | sed -n 's/^floor=//p')
        say "release $wanted is signed by the key $new_key"
    else
        say "release $wanted is whole; which key may sign the next ones is not known over http://: say it with --release-key"
    fi
}

# ---- settings ----------------------------------------------------------------------------------

# kept_setting NAME: what an existing installation has.
kept_setting() { sed -n "s/^$1='\(.*\)'\$/\1/p" "$settings/agent.env" 2>/dev/null || true; }

# Sets key: from the words, the file, or the existing installation.
settle_key() {
    if [ "$key_file" = - ]; then
        is_file || die "the script itself comes from standard input, so the key can't: put it into a file for --key-file"
        IFS= read -r key || [ -n "$key" ] || die "standard input holds no key"
    elif [ -n "$key_file" ]; then
        [ ! -d "$key_file" ] || die "$key_file is a folder: name the file that holds the key"
        [ -r "$key_file" ] || die "the key file $key_file can't be read: check the path and its permissions"
        key=$(tr -d ' \t\r\n' <"$key_file")
        [ -n "$key" ] || die "the key file $key_file is empty"
    elif [ -z "$key" ] && [ -r "$settings/agent_key" ]; then
        key=$(cat "$settings/agent_key")
    elif [ -z "$key" ]; then
        ask_key
    fi
    [ -n "$key" ] || die "no key: make one with 'muster keys create NAME' and give it with --key or --key-file"
    case $key in
    mst_live_*) die "that is an API key for people and programs: make an agent key with 'muster keys create NAME'" ;;
    mst_agent_*[!A-Za-z0-9_-]*) die "the key holds characters that no key has: copy it again" ;;
    mst_agent_????????????????????????????????*) ;;
    mst_agent_*) die "the key is too short: copy it again, whole" ;;
    *) die "that is no agent key: it begins with mst_agent_; make one with 'muster keys create NAME'" ;;
    esac
}

# Asks a person for the key, so that it stands in no history, log or list of processes.
ask_key() {
    { [ -t 2 ] && : </dev/tty; } 2>/dev/null || return 0
    printf 'Agent key: ' >/dev/tty
    kept_mode=$(stty -g </dev/tty 2>/dev/null) || kept_mode=''
    stty -echo </dev/tty 2>/dev/null || true
    IFS= read -r key </dev/tty || key=''
    [ -z "$kept_mode" ] || stty "$kept_mode" </dev/tty
    printf '\n' >/dev/tty
}

# set_in FILE NAME VALUE: one line that sh and service managers read alike.
set_in() {
    [ -n "$3" ] || return 0
    case $3 in
    *[\'\"\\\$\`]* | *'
'*) die "the value of $2 holds a quote, a dollar sign or a line end: write such characters as %27, %22, %24 …" ;;
    esac
    printf "%s='%s'\n" "$2" "$3" >>"$1"
}

# proxy_setting NAME: of the environment in either spelling, else as it was.
proxy_setting() {
    small=$(printf %s "$1" | tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz')
    eval "chosen=\${$small:-\${$1:-}}"
    [ -n "$chosen" ] || chosen=$(kept_setting "$1")
    printf %s "$chosen"
}

# Downloads go the way that the agent goes. Of HTTP_PROXY curl reads only the small spelling, wget of all.
use_proxies() {
    for proxy in HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY; do
        kept=$(proxy_setting "$proxy")
        small=$(printf %s "$proxy" | tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz')
        [ -z "$kept" ] || export "$proxy=$kept" "$small=$kept"
    done
}

# Writes into the staging folder everything that goes into the settings folder.
stage_settings() {
    mkdir -p "$staging/etc"
    printf '%s\n' "$key" >"$staging/etc/agent_key"
    ca_setting=''
    if [ -n "$ca" ]; then
        cp "$ca" "$staging/etc/ca.pem"
    elif [ -f "$settings/ca.pem" ]; then
        cp "$settings/ca.pem" "$staging/etc/ca.pem"
    fi
    [ ! -f "$staging/etc/ca.pem" ] || ca_setting=$settings/ca.pem
    [ -n "$insecure" ] || insecure=$(kept_setting MUSTER_INSECURE)
    file=$staging/etc/agent.env
    : >"$file"
    set_in "$file" MUSTER_SERVER_URL "$server"
    set_in "$file" MUSTER_API_KEY_FILE "$settings/agent_key"
    set_in "$file" MUSTER_STATE_DIR "$state"
    set_in "$file" MUSTER_DIR "$program"
    set_in "$file" MUSTER_LOG_DIR "$logs"
    set_in "$file" MUSTER_CA_FILE "$ca_setting"
    set_in "$file" MUSTER_INSECURE "$insecure"
    for proxy in HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY; do
        set_in "$file" "$proxy" "$(proxy_setting "$proxy")"
    done
    # What a person has added stays.
    grep -s '^MUSTER_[A-Z_]*=' "$settings/agent.env" |
        grep -v -E '^MUSTER_(SERVER_URL|API_KEY_FILE|STATE_DIR|DIR|LOG_DIR|CA_FILE|INSECURE)=' >>"$file" || true
}

# with_settings FOLDER COMMAND…: runs a command as the agent would see the world.
with_settings() {
    folder=$1
    shift
    [ -r "$folder/agent.env" ] || die "the settings in $folder are gone: install again with --key"
    (
        # What a person has set for other purposes is not the agent's.
        for variable in $(env | sed -n 's/^\(MUSTER_[A-Z_]*\)=.*/\1/p'); do unset "$variable"; done
        set -a
        # shellcheck disable=SC1091 # it is ours
        . "$folder/agent.env"
        set +a
        export MUSTER_API_KEY_FILE="$folder/agent_key"
        [ ! -f "$folder/ca.pem" ] || export MUSTER_CA_FILE="$folder/ca.pem"
        exec "$@"
    )
}

# The server is asked about the key before anything of the host is changed.
check_way() {
    verdict=$(with_settings "$staging/etc" "$staging/bin/muster-agent" doctor --brief 2>&1) || {
        verdict=$(printf '%s\n' "$verdict" | tail -n 1)
        die "${verdict:-the agent can not work with these settings}"
    }
}

# Writes the host's policy: kept as it is unless something else is asked for.
write_policy() {
    if [ -f "$state/policy.json" ] && [ -z "$allow$run_as" ]; then
        return 0
    fi
    [ -n "$allow" ] || allow=$(policy_word allow)
    [ -n "$run_as" ] || run_as=$(policy_word run_as)
    if [ "$scope" = system ]; then
        # A policy that names nobody was meant so.
        if [ -z "$run_as" ] && [ -f "$state/policy.json" ]; then run_as=root; fi
        # Each installation has a user of its own, which goes with it.
        [ -n "$run_as" ] || run_as=muster${name#muster-agent}
        [ "$run_as" = root ] || make_user
    fi
    as=''
    [ -z "$run_as" ] || [ "$run_as" = root ] || as=", \"run_as\": \"$run_as\""
    printf '{"allow": "%s"%s}\n' "${allow:-manifest}" "$as" >"$state/policy.json.new"
    chmod 644 "$state/policy.json.new"
    mv "$state/policy.json.new" "$state/policy.json"
}

policy_word() { sed -n "s/.*\"$1\": *\"\([a-zA-Z0-9_.-]*\)\".*/\1/p" "$state/policy.json" 2>/dev/null || true; }

# The user as whom scripts run, without a password and a shell to log in with.
make_user() {
    if id "$run_as" >/dev/null 2>&1; then
        return 0
    fi
    [ "$run_as" = "muster${name#muster-agent}" ] || die "there is no user $run_as on this host: make it first, or leave --run-as out"
    shell=/usr/sbin/nologin
    [ -x "$shell" ] || shell=/sbin/nologin
    [ -x "$shell" ] || shell=/bin/false
    if has useradd; then
        useradd --system --user-group --no-create-home --home-dir "$state/home" --shell "$shell" "$run_as"
    else
        adduser -S -D -H -h "$state/home" -s "$shell" "$run_as"
    fi || die "the user $run_as can't be made: make it, or name another with --run-as"
    made_user=$run_as
    [ -z "$is_new" ] || printf 'made_user=%s\n' "$made_user" >>"$program/.installing"
    mkdir -p "$state/home"
    chown "$run_as" "$state/home"
}

# ---- service managers --------------------------------------------------------------------------

choose_service() {
    if [ "$scope" = user ]; then
        XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
        export XDG_RUNTIME_DIR
        if [ -d /run/systemd/system ] && systemctl --user show-environment >/dev/null 2>&1; then
            service=systemd
        elif has crontab; then
            service=cron
        else
            service=none
        fi
    elif [ -d /run/systemd/system ]; then
        service=systemd
    elif [ -d /run/openrc ] && has rc-service; then
        service=openrc
    elif has sv && runit_folder >/dev/null; then
        service=runit
    elif has crontab; then
        service=cron
    else
        service=none
    fi
}

# For managers that read no file of settings.
write_run_script() {
    cat >"$program/run" <<TEXT
#!/bin/sh
# Nothing of whoever starts this comes along: no variable, no mask.
[ "\${1:-}" = clean ] || exec env -i HOME="\${HOME:-/}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $program/run clean
umask 022
set -a
. $settings/agent.env
set +a
exec $bin/muster-supervisor run
TEXT
    chmod 755 "$program/run"
}

systemd_control() {
    if [ "$scope" = user ]; then
        XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)} systemctl --user "$@"
    else
        systemctl "$@"
    fi
}

systemd_unit() {
    if [ "$scope" = user ]; then
        printf %s "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/$name.service"
    else
        printf %s "/etc/systemd/system/$name.service"
    fi
}

systemd_text() {
    cat <<TEXT
[Unit]
Description=Muster agent
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=$settings/agent.env
ExecStart=$bin/muster-supervisor run
Restart=on-failure
RestartSec=5
# The agent says that only a person can help.
RestartPreventExitStatus=99
# Jobs are not the service's to end: each has a keeper of its own, which goes on.
KillMode=process
OOMPolicy=continue
TimeoutStopSec=30
WatchdogSec=300
TEXT
    if [ "$scope" = user ]; then
        printf '\n[Install]\nWantedBy=default.target\n'
        return 0
    fi
    # Jobs live in here and may install packages, mount and use sudo: nothing that makes a mount
    # namespace, hides devices or bars new privileges.
    cat <<'TEXT'
LockPersonality=yes
RestrictRealtime=yes
KeyringMode=private
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_TIME CAP_WAKE_ALARM CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYS_PACCT CAP_SYS_TTY_CONFIG CAP_BLOCK_SUSPEND CAP_LEASE CAP_SYSLOG

[Install]
RequestedBy=multi-user.target
TEXT
}

systemd_install() {
    unit=$(systemd_unit)
    # It is called behind ||, where `set -e` holds no longer.
    (umask 022 && mkdir -p "$(dirname "$unit")" && systemd_text >"$unit") &&
        systemd_control daemon-reload &&
        systemd_control enable --quiet "$name.service" || return 1
    boot="systemd unit $name"
    if [ "$scope" = user ]; then
        if [ -e "/var/lib/systemd/linger/$(id -un)" ]; then
            boot="$boot of this user"
        elif loginctl enable-linger "$(id -un)" 2>/dev/null; then
            boot="$boot of this user"
            made_linger=1
        else
            boot="$boot of this user, from log-in on; for a start on boot root has to say: loginctl enable-linger $(id -un)"
        fi
    fi
}
systemd_start() { systemd_control restart "$name.service"; }
systemd_stop() { [ ! -e "$(systemd_unit)" ] || systemd_control stop "$name.service"; }
systemd_remove() {
    systemd_control disable --quiet "$name.service" 2>/dev/null || true
    unit=$(systemd_unit)
    rm -f "$unit"
    systemd_control daemon-reload || true
    systemd_control reset-failed "$name.service" 2>/dev/null || true
    if [ "$scope" = user ]; then
        folder=$(dirname "$unit")
        rmdir "$folder/default.target.wants" "$folder" "${folder%/user}" 2>/dev/null || true
        [ -z "$(recorded made_linger)$made_linger" ] || loginctl disable-linger "$(id -un)" 2>/dev/null || true
    fi
}

openrc_install() {
    cat >"/etc/init.d/$name" <<TEXT
#!/sbin/openrc-run
description="Muster agent"
command=$program/run
command_background=yes
pidfile=/run/$name.pid
depend() {
    use net dns logger
    after firewall
}
stop() {
    ebegin "Stopping $name"
    start-stop-daemon --stop --pidfile "\$pidfile" --retry TERM/25/KILL/5
    eend \$?
}
TEXT
    chmod 755 "/etc/init.d/$name" && rc-update add "$name" default >/dev/null || return 1
    boot="OpenRC service $name"
}
openrc_start() { rc-service --quiet "$name" restart; }
openrc_stop() { [ ! -e "/etc/init.d/$name" ] || rc-service --quiet --ifstarted "$name" stop; }
openrc_remove() {
    rc-update delete "$name" default >/dev/null 2>&1 || true
    rm -f "/etc/init.d/$name"
}

# The folder that runit watches, if it does.
runit_folder() {
    for folder in /etc/service /var/service /service /run/runit/service; do
        if [ -d "$folder" ]; then
            printf %s "$folder"
            return 0
        fi
    done
    return 1
}

runit_install() {
    (umask 022 && mkdir -p "/etc/sv/$name") && cp "$program/run" "/etc/sv/$name/run" || return 1
    cat >"/etc/sv/$name/finish" <<TEXT
#!/bin/sh
# 99: only a person can help. 0 without being asked from here: the server ended it for good.
case \$1 in
99) exec sv down $name ;;
0) grep -q '"stopped by' $state/supervisor.json || exec sv down $name ;;
esac
TEXT
    chmod 755 "/etc/sv/$name" "/etc/sv/$name/run" "/etc/sv/$name/finish"
    ln -sfn "/etc/sv/$name" "$(runit_folder)/$name" || return 1
    boot="runit service $name"
}
runit_start() {
    # It looks for new services every 5 s.
    tries=0
    until [ -p "/etc/sv/$name/supervise/ok" ] || [ $tries -ge 15 ]; do
        tries=$((tries + 1))
        sleep 1
    done
    # Not "restart": it takes a start of the same second for the one that was asked for.
    sv -w 30 stop "$name" >/dev/null && sv -w 30 start "$name" >/dev/null
}
runit_stop() { [ ! -e "/etc/sv/$name" ] || sv -w 30 stop "$name" >/dev/null; }
runit_remove() {
    sv -w 30 stop "$name" >/dev/null 2>&1 || true
    watched=$(runit_folder) && rm -f "$watched/$name"
    # Its keeper ends only when it no longer finds the folder.
    sv exit "/etc/sv/$name" >/dev/null 2>&1 || true
    rm -rf "/etc/sv/$name"
}

# All lines but ours. Fails if the crontab can't be read: writing it then would lose what is in it.
cron_lines() {
    table=$(LC_ALL=C crontab -l 2>&1) || {
        case $table in *'no crontab'* | *'No such file'*) return 0 ;; esac
        printf 'deploy.sh: the crontab can not be read: %s\n' "$table" >&2
        return 1
    }
    printf '%s\n' "$table" | grep -v " # $name\$" || true
}
cron_install() {
    lines=$(cron_lines) || return 1
    { [ -z "$lines" ] || printf '%s\n' "$lines"; printf '@reboot %s/run >/dev/null 2>&1 # %s\n' "$program" "$name"; } | crontab - || return 1
    boot="@reboot in the crontab of $(id -un)"
}
cron_start() { none_start; }
cron_stop() { none_stop; }
cron_remove() {
    crontab -l 2>/dev/null | grep -q " # $name\$" || return 0
    lines=$(cron_lines) || return 1
    if [ -n "$lines" ]; then printf '%s\n' "$lines" | crontab -; else crontab -r; fi
}

none_install() { boot="no: this host has neither systemd, OpenRC, runit nor cron; start $program/run on boot by other means"; }
none_start() {
    none_stop
    if has setsid; then
        (cd / && setsid "$program/run" </dev/null >/dev/null 2>&1 &)
    else
        (cd / && nohup "$program/run" </dev/null >/dev/null 2>&1 &)
    fi
}
none_stop() {
    supervisor=$(supervisor_id)
    [ -n "$supervisor" ] || return 0
    kill -TERM "$supervisor" 2>/dev/null || true
    tries=0
    while [ -n "$(supervisor_id)" ]; do
        tries=$((tries + 1))
        [ $tries -le 40 ] || die "the supervisor, process $supervisor, does not end: look at $logs/muster-agent.log"
        sleep 1
    done
}
none_remove() { :; }

# The process of this installation's supervisor, if it lives. What a file says is believed only if
# that process runs our program.
supervisor_id() {
    said=$(sed -n 's/^ *"pid": *\([0-9]*\),*$/\1/p' "$state/supervisor.json" 2>/dev/null) || true
    case $said in '' | *[!0-9]* | 0 | 1) return 0 ;; esac
    case $(readlink "/proc/$said/exe" 2>/dev/null) in
    "$program"/*/muster-supervisor | "$program"/*/'muster-supervisor (deleted)') printf %s "$said" ;;
    esac
}

# ---- installing --------------------------------------------------------------------------------

install_agent() {
    platform_name
    check_owners
    settle_server
    settle_key
    use_proxies
    look_at_place
    is_new='' was_connected='' cut_off='' had_state='' made_user='' made_linger='' changed='' installed='' staging='' service='' old_service=''
    [ ! -d "$state" ] || had_state=1
    is_installed || is_new=1
    trap 'undo' EXIT
    trap 'cut_off=1; exit 130' INT
    trap 'cut_off=1; exit 129' HUP
    trap 'exit 141' PIPE
    trap 'cut_off=1; exit 143' TERM
    open_staging
    settle_bundle
    stage_settings
    fetch_programs
    settle_release
    printf 'Muster agent %s for %s from %s\n' "$new_version" "$platform" "${from:-$web}"
    check_versions
    check_way
    say "the server knows the key"
    put_in_place
    say "installed in $program; settings in $settings, state in $state"
    say "starts on boot: $boot"
    installed=1
    rm -rf "$staging" "$program/versions/$new_version.old"
    trap - EXIT INT TERM HUP PIPE
    wait_until_connected
}

# Refuses to mix with what is there already.
look_at_place() {
    check_alone
    if is_installed; then
        need_installation
        [ "$(recorded scope)" = "$scope" ] || die "$program holds a $(recorded scope) installation: leave --user out, or choose another --dir"
        old_server=$(kept_setting MUSTER_SERVER_URL)
        old_key=$(cat "$settings/agent_key" 2>/dev/null || true)
        if [ -z "$yes" ] && { [ "$old_server" != "$server" ] || [ "$old_key" != "$key" ]; }; then
            what="the key"
            [ "$old_server" = "$server" ] || what="the server ($old_server)"
            ask "An agent is installed here already; change $what?" ||
                die "the agent that is installed in $program has another ${what#the }: say --yes to change it, or --uninstall it first"
        fi
        check_pinned_key "$(cat "$program/release_key" 2>/dev/null || true)"
    elif [ -e "$program/.installing" ]; then
        clean_cut_off
        had_state=''
        [ ! -d "$state" ] || had_state=1
    elif [ -d "$program" ] && [ -n "$(ls -A "$program")" ]; then
        die "$program holds something else, perhaps an older installation: move it away, or choose another folder with --dir"
    fi
}

check_alone() {
    for other in "$program"/.staging.*; do
        ! { [ -d "$other" ] && kill -0 "${other##*.}" 2>/dev/null; } ||
            die "another deploy.sh, process ${other##*.}, is at work in $program: wait until it has ended"
    done
}

# check_pinned_key PINNED: another key that signs releases is another hand that puts programs on this host.
check_pinned_key() {
    pinned=$1
    [ -n "$release_key" ] && [ -n "$pinned" ] && [ "$release_key" != "$pinned" ] || return 0
    [ -n "$yes" ] || ask "This host takes releases that are signed by $pinned; change that to $release_key?" ||
        die "this host takes releases that are signed by the key $pinned: say --yes to change that to $release_key"
    say "the key that signs releases was $pinned, and is to be $release_key"
}

# Removes what an installation left that was killed before it counted.
clean_cut_off() {
    begun() { sed -n "s/^$1=//p" "$program/.installing"; }
    service=$(begun service) made_user=$(begun made_user) keep_state=$(begun had_state)
    case $service in
    systemd | openrc | runit | cron | none)
        "${service}_stop" >/dev/null 2>&1 || true
        "${service}_remove" >/dev/null 2>&1 || true
        remove_files
        ;;
    *) rm -rf "$program/versions" "$program"/.staging.* "$program/.installing" ;;
    esac
    service='' made_user='' keep_state=''
}

# ask QUESTION: true if a person says yes; false where there is none.
ask() {
    { [ -t 1 ] && : </dev/tty; } 2>/dev/null || return 1
    printf '%s [y/N] ' "$1" >/dev/tty
    IFS= read -r answer </dev/tty || return 1
    case $answer in y | Y | yes) return 0 ;; *) return 1 ;; esac
}

# Makes the folders and checks that there is room, before the first download.
open_staging() {
    umask 022
    mkdir -p "$program" 2>/dev/null || die "the folder $program can't be made: check its parent's permissions, or choose another with --dir"
    umask 077
    [ -z "$is_new" ] || : >"$program/.installing"
    rm -rf "$program"/.staging.*
    staging=$program/.staging.$$
    mkdir "$staging" 2>/dev/null || die "$program can't be written to: check its permissions and the space on its disk"
    for folder in "$program" "$state"; do
        near=$folder
        while [ ! -d "$near" ]; do near=$(dirname "$near"); done
        room=$(df -Pk "$near" 2>/dev/null | awk 'NR == 2 { print $4 }')
        [ "${room:-999999}" -ge 98304 ] ||
            die "there are only $((room / 1024)) MiB left for $folder: free 96 MiB, or choose another folder with --dir"
    done
}

check_versions() {
    [ -z "$is_new" ] || return 0
    old_version=$(readlink "$program/versions/current" || true)
    if [ "$old_version" = "$new_version" ]; then
        say "$new_version is installed already: settings and service are brought up to date"
    elif is_older "$new_version" "$old_version" && [ -z "$version" ]; then
        die "$old_version is installed here and ${from:-$web} offers the older $new_version: say --version $new_version to go back"
    else
        say "$old_version is replaced"
    fi
}

# is_older A B: true if version A comes before version B.
is_older() {
    printf '%s\n%s\n' "$1" "$2" | awk -F '[.+-]' '
        NR == 1 { for (i = 1; i <= 3; i++) a[i] = $i + 0 }
        NR == 2 { for (i = 1; i <= 3; i++) if (a[i] != $i + 0) { exit !(a[i] < $i + 0) } exit 1 }'
}

# From here on the host is changed; `undo` takes it back if a step fails.
put_in_place() {
    if [ -z "$is_new" ]; then
        mkdir "$staging/before"
        cp -R "$settings" "$staging/before/etc"
        cp "$program/installation" "$staging/before/installation"
        [ ! -f "$state/policy.json" ] || cp "$state/policy.json" "$staging/before/policy.json"
        for file in release_key release_floor; do
            [ ! -f "$program/$file" ] || cp "$program/$file" "$staging/before/$file"
        done
        old_service=$(recorded service)
        ! is_connected || was_connected=1
        made_user=$(recorded made_user)
        made_linger=$(recorded made_linger)
    fi
    choose_service
    [ -z "$is_new" ] || printf 'service=%s\nhad_state=%s\n' "$service" "$had_state" >"$program/.installing"
    # Not before everything that it takes to go back is kept.
    changed=1
    (umask 022 && mkdir -p "$program/versions" "$(dirname "$settings")" "$(dirname "$logs")" "$(dirname "$state")")
    mkdir -p "$settings" "$logs"
    [ -d "$state" ] || mkdir -m 711 "$state"
    place_version
    for file in agent_key agent.env ca.pem; do
        if [ -f "$staging/etc/$file" ]; then
            # Staged beside its place: another disk would make the move a copy, which can stop half way.
            cp "$staging/etc/$file" "$settings/.$file.new"
            chmod 600 "$settings/.$file.new"
            mv "$settings/.$file.new" "$settings/$file"
        fi
    done
    write_policy
    keep_script
    write_run_script
    if [ -n "$old_service" ] && [ "$old_service" != "$service" ]; then
        "${old_service}_stop" || true
        "${old_service}_remove"
    fi
    "${service}_install" || die "the service could not be set up with $service: see above"
    point_to "$new_version"
    write_line release_key "$new_key"
    write_line release_floor "$new_floor"
    write_record
    "${service}_start" || die "the service does not start: see $logs/muster-agent.log"
    # What worked before has to work again.
    [ -z "$was_connected" ] || await_connection || die "version $new_version does not connect within 30 s: see $logs/muster-agent.log"
}

# The folder of the new version appears at once or not at all; a program in use stays on disk.
place_version() {
    target=$program/versions/$new_version
    # A kill in the middle of the last attempt left the old one aside.
    if [ -d "$target" ]; then rm -rf "$target.old"; elif [ -d "$target.old" ]; then mv "$target.old" "$target"; fi
    chmod 755 "$staging" "$staging/bin"
    mkdir "$staging/version"
    mv "$staging/bin" "$staging/version/bin"
    for file in release.json release.sig keys.json; do
        [ ! -f "$staging/release/$file" ] || { chmod 644 "$staging/release/$file" && mv "$staging/release/$file" "$staging/version/$file"; }
    done
    chmod 755 "$staging/version"
    if [ -d "$target" ]; then
        mv "$target" "$target.old"
    fi
    mv "$staging/version" "$target"
}

point_to() {
    ln -sfn "$1" "$program/versions/.current"
    # A rename, so that there is a current version at any moment.
    mv -T "$program/versions/.current" "$program/versions/current" 2>/dev/null || {
        ln -sfn "$1" "$program/versions/current"
        rm -f "$program/versions/.current"
    }
}

# write_line NAME TEXT: a file of the program folder, at once or not at all. Nothing if there is no text.
write_line() {
    [ -n "$2" ] || return 0
    printf '%s\n' "$2" >"$program/$1.new"
    chmod 644 "$program/$1.new"
    mv "$program/$1.new" "$program/$1"
}

# A copy of this script for later; a script that was piped is fetched again.
keep_script() {
    if is_file; then
        cp "$0" "$staging/deploy.sh"
    else
        fetch /install/deploy.sh "$staging/deploy.sh"
    fi
    if [ -f "$staging/deploy.sh" ]; then
        chmod 755 "$staging/deploy.sh"
        mv "$staging/deploy.sh" "$program/deploy.sh"
    fi
}

write_record() {
    # Of an installation before this one that left its state.
    if [ -z "$made_user" ] && [ -f "$state/made_user" ]; then made_user=$(cat "$state/made_user"); fi
    {
        printf 'layout=1\nscope=%s\nservice=%s\nname=%s\n' "$scope" "$service" "$name"
        [ -z "$made_user" ] || printf 'made_user=%s\n' "$made_user"
        [ -z "$made_linger" ] || printf 'made_linger=1\n'
    } >"$program/installation.new"
    chmod 644 "$program/installation.new"
    mv "$program/installation.new" "$program/installation"
    rm -f "$program/.installing"
}

# Takes back whatever has been done when a step failed: nothing half stays.
undo() {
    code=$?
    trap - EXIT INT TERM HUP PIPE
    [ -z "$cut_off" ] || printf 'deploy.sh: cut off; taking back what was begun\n' >&2
    [ -z "$installed" ] || exit "$code"
    set +e
    if [ -n "$is_new" ]; then
        # What was there before this installation is not its to remove.
        keep_state=$had_state
        if [ -n "$changed" ]; then
            if [ -n "$service" ]; then
                "${service}_stop" >/dev/null 2>&1
                "${service}_remove" >/dev/null 2>&1
            fi
            remove_files
        else
            rm -rf "$program" 2>/dev/null
        fi
    elif [ -n "$changed" ]; then
        back=1
        for file in agent_key agent.env ca.pem; do
            put_back "$staging/before/etc/$file" "$settings/$file" || back=''
        done
        [ ! -f "$staging/before/policy.json" ] || put_back "$staging/before/policy.json" "$state/policy.json" || back=''
        for file in installation release_key release_floor; do
            put_back "$staging/before/$file" "$program/$file" || back=''
        done
        old=$program/versions/$old_version
        [ ! -d "$old.old" ] || { rm -rf "$old" && mv "$old.old" "$old"; } || back=''
        point_to "$old_version" || back=''
        new_service=$service
        service=$(recorded service)
        if [ -n "$new_service" ] && [ "$new_service" != "$service" ]; then
            { "${new_service}_stop"; "${new_service}_remove"; } >/dev/null 2>&1
        fi
        "${service}_install" >/dev/null 2>&1 || back=''
        "${service}_start" >/dev/null 2>&1 || back=''
        if [ -n "$back" ]; then
            printf 'deploy.sh: the installation is as it was before, version %s\n' "$old_version" >&2
        else
            mv "$staging/before" "$program/kept.$$"
            printf 'deploy.sh: the installation could not be put back whole; what was before is in %s\n' "$program/kept.$$" >&2
        fi
    fi
    rm -rf "$staging"
    exit "$code"
}

# put_back KEPT FILE: at once or not at all; what was not there before goes.
put_back() {
    [ -f "$1" ] || { rm -f "$2"; return; }
    ! cmp -s "$1" "$2" || return 0
    cp -p "$1" "$2.old" && mv "$2.old" "$2"
}

is_connected() { "$bin/muster-agent" status --state-dir "$state" >/dev/null 2>&1; }

# Half a minute is long for a host that has just been told that the server knows its key.
await_connection() {
    tries=0
    until is_connected; do
        tries=$((tries + 1))
        [ $tries -le 30 ] || return 1
        sleep 1
    done
}

wait_until_connected() {
    if ! await_connection; then
        "$bin/muster-agent" status --state-dir "$state" | grep '^connected' || true
        with_settings "$settings" "$bin/muster-agent" doctor || true
        die "the agent is installed, but not connected after 30 s: see above, and $logs/muster-agent.log"
    fi
    say "connected"
    cat <<TEXT

Scripts   $state/script_manifest.json lists what may run; the files lie in $state/scripts
Manage    $program/deploy.sh --status, --logs, --update, --stop, --uninstall
TEXT
}

# ---- looking after -----------------------------------------------------------------------------

show_status() {
    need_installation
    check_owners
    code=0
    "$bin/muster-agent" status --state-dir "$state" || code=$?
    if starts_on_boot; then
        printf 'on boot     started by %s\n' "$service"
    else
        printf 'on boot     not started\n'
    fi
    if [ $code != 0 ]; then
        printf '\n'
        with_settings "$settings" "$bin/muster-agent" doctor || true
    fi
    exit $code
}

# The agent is asked, and does it as it would for the server: nothing is put in place from here.
update_agent() {
    need_installation
    check_owners
    # One on trial may be one that answers nothing.
    tried=$(sed -n 's/.*"from":"\([0-9A-Za-z.+-]*\)".*/\1/p' "$program/trial.json" 2>/dev/null || true)
    asked=$program/versions/${tried:-current}/bin/muster-agent
    "$asked" help request-update >/dev/null 2>&1 ||
        die "version $(readlink "$program/versions/current"), which is installed here, can't be asked for an update yet: run $program/deploy.sh without --update"
    with_settings "$settings" "$asked" request-update ${version:+--version "$version"}
}

starts_on_boot() {
    case $service in
    systemd) systemd_control is-enabled --quiet "$name.service" 2>/dev/null ;;
    openrc) rc-update show default 2>/dev/null | grep -q "$name" ;;
    runit) watched=$(runit_folder) && [ -e "$watched/$name" ] ;;
    cron) crontab -l 2>/dev/null | grep -q " # $name\$" ;;
    *) return 1 ;;
    esac
}

start_agent() {
    need_installation
    check_owners
    "${service}_start" || die "the service does not start: see $logs/muster-agent.log"
    await_connection || {
        "$bin/muster-agent" status --state-dir "$state" | grep '^connected' || true
        die "started, but not connected after 30 s: $program/deploy.sh --status says why"
    }
    printf 'Started and connected\n'
}

follow_logs() {
    need_installation
    [ -f "$logs/muster-agent.log" ] || die "there is no log yet in $logs: has the agent been started?"
    exec tail -n 100 -F "$logs/muster-agent.log"
}

stop_agent() {
    need_installation
    check_owners
    "${service}_stop" || die "the service $name could not be stopped"
    if [ -n "$kill_executions" ]; then
        "$bin/muster-agent" end-executions --state-dir "$state" || die "some jobs did not end: see deploy.sh --status"
    fi
    printf 'Stopped; start it again with %s/deploy.sh --start\n' "$program"
}

uninstall_agent() {
    if ! is_installed && [ -e "$program/.installing" ]; then
        clean_cut_off
        printf 'Removed what was left of an installation that had been cut off\n'
        exit 0
    fi
    need_installation
    check_owners
    if [ -z "$kill_executions" ] && [ -z "$keep_state" ] && has_jobs; then
        die "jobs are running on this host: wait for them, or end them with --kill-executions"
    fi
    "${service}_stop" || die "the service $name could not be stopped"
    if [ -n "$kill_executions" ]; then
        "$bin/muster-agent" end-executions --state-dir "$state" || die "some jobs did not end: see deploy.sh --status"
    fi
    if [ -z "$keep_state" ]; then
        # Without the server the host is cleaned all the same; the agent says what is left to do.
        with_settings "$settings" "$bin/muster-agent" deregister 2>&1 | tail -n 1 || true
    else
        # Who made the user is known to whoever comes after.
        [ -z "$(recorded made_user)" ] || recorded made_user >"$state/made_user"
    fi
    made_linger=''
    "${service}_remove"
    made_user=$(recorded made_user)
    remove_files
    if [ -n "$keep_state" ]; then
        printf 'Removed, but for the state in %s\n' "$state"
    else
        printf 'Removed\n'
    fi
}

has_jobs() { "$bin/muster-agent" status --state-dir "$state" --json 2>/dev/null | grep -q '"command_id"'; }

# Everything that an installation has put on the host; other files in shared folders stay.
remove_files() {
    rm -f "$settings/agent_key" "$settings/agent.env" "$settings/ca.pem" "$settings"/.*.new
    rmdir "$settings" 2>/dev/null || true
    rm -rf "$logs"
    if [ -z "$keep_state" ]; then
        rm -rf "$state"
        if [ -n "$made_user" ]; then
            if has userdel; then userdel "$made_user"; else deluser "$made_user"; fi >/dev/null 2>&1 ||
                printf 'deploy.sh: the user %s stays, as something runs as it: remove it later\n' "$made_user" >&2
        fi
    fi
    rm -rf "$program/versions" "$program/run" "$program"/.staging.* "$program"/.release-*
    rm -f "$program/release_key" "$program/release_floor" "$program/trial.json"
    # Last, as with these it can be tried again.
    rm -f "$program/.installing" "$program/deploy.sh" "$program/installation" "$program"/*.new
    rmdir "$program" 2>/dev/null || true
}

# ---- containers --------------------------------------------------------------------------------
#
# What an image has to be, and Dockerfile.agent is: process 1 is the supervisor, which brings the
# programs of /usr/lib/muster into the volume at /opt/muster where that has none or older ones, and
# goes on with those; state lies in /var/lib/muster, whose owner is the user that it runs as; key and
# authorities lie in /etc/muster; /bin/sh and stat are there. What the volumes hold outlives every
# container: an update swaps the programs in theirs.

# Sets way: docker, or native for a service of the host.
choose_way() {
    kept=''
    if is_installed; then
        kept=native
        [ "$(recorded service)" != docker ] || kept=docker
    elif [ -e "$program/.installing" ]; then
        kept=native
    fi
    [ -z "$kept" ] || [ -z "$way" ] || [ "$way" = "$kept" ] ||
        die "the agent in $program was installed with --$kept: --uninstall it first, then install it with --$way"
    way=${way:-$kept}
    if [ -z "$way" ] && [ "$action" = install ]; then
        if [ -n "$image" ]; then
            way=docker
        elif [ -z "$from$run_as" ] && engine_answers; then
            way=docker
            say "a Docker engine is here: the agent runs in a container (--native makes it a service of the host)"
        fi
    fi
    way=${way:-native}
    [ "$way" = docker ] || [ -z "$image" ] || misuse "--image goes with --docker"
    [ "$way" = native ] || [ -z "$from$run_as" ] || misuse "--from and --run-as go with --native: a container has the programs and the user of its image"
}

# An engine that hangs is none.
engine_answers() {
    has docker || return 1
    if has timeout; then timeout 20 docker info; else docker info; fi >/dev/null 2>&1
}

need_engine() {
    engine_answers || die "no Docker engine answers to 'docker info': start it, check that this user may use it, or install with --native"
}

# container SETTINGS WORD…: `docker run` with this installation's volumes and settings. The key is in a
# volume: what stands here can be seen with `docker inspect`.
container() {
    settings_file=$1
    shift
    while IFS= read -r line; do
        case $line in
        MUSTER_API_KEY_FILE=* | MUSTER_STATE_DIR=* | MUSTER_DIR=* | MUSTER_LOG_DIR=*) ;;
        MUSTER_CA_FILE=*) set -- --env MUSTER_CA_FILE=/etc/muster/ca.pem "$@" ;;
        *=\'*\')
            value=${line#*=\'}
            set -- --env "${line%%=*}=${value%\'}" "$@"
            ;;
        esac
    done <"$settings_file"
    # Nothing of the host's own loopback is seen from a network of one's own.
    case $(sed -n "s|^MUSTER_SERVER_URL='[a-z]*://\(.*\)'\$|\1|p" "$settings_file") in
    localhost | localhost[:/]* | 127.* | '[::1]'*) set -- --network host "$@" ;;
    esac
    docker run --hostname "$(uname -n)" \
        --volume "$name-programs:/opt/muster" --volume "$name-state:/var/lib/muster" --volume "$name-settings:/etc/muster" \
        --env MUSTER_DIR=/opt/muster --env MUSTER_STATE_DIR=/var/lib/muster --env MUSTER_API_KEY_FILE=/etc/muster/agent_key "$@"
}

# in_volumes SETTINGS SCRIPT WORD…: a shell that may write into the volumes; standard input is its own.
in_volumes() {
    settings_of=$1
    shift
    container "$settings_of" --rm --interactive --user 0:0 --entrypoint /bin/sh "$image" -c "$@"
}

# put_file FILE MODE: standard input becomes a file in the volumes, for the user of the image alone.
put_file() {
    # shellcheck disable=SC2016 # the shell in the container expands it
    in_volumes "$staging/etc/agent.env" 'umask 077 && cat >"$1.put" && chown "$(stat -c %u:%g /var/lib/muster)" "$1.put" && chmod "$2" "$1.put" && mv "$1.put" "$1"' sh "$1" "$2" ||
        die "$1 could not be written into the volumes of $name: see above"
}

# The agent's program: of the volume, or the image's before there is one.
# shellcheck disable=SC2016 # the shell in the container expands it
contained_agent='bin=/opt/muster/versions/current/bin; [ -x "$bin/muster-agent" ] || bin=/usr/lib/muster; exec "$bin/muster-agent" "$@"'

# in_container WORD…: what runs there is asked with its own program.
in_container() { docker exec "$name" /bin/sh -c "$contained_agent" sh "$@"; }

container_state() { docker container inspect --format '{{.State.Status}}' "$1" 2>/dev/null || printf missing; }

install_container() {
    check_owners
    need_engine
    settle_server
    is_new=1 cut_off='' installed='' staging='' had_state='' made_linger='' renamed='' changed=''
    # The settings come last: without them an installation was cut off.
    ! [ -f "$settings/agent.env" ] || ! is_installed || is_new=''
    look_at_container
    if [ -n "$is_new$key$key_file" ]; then settle_key; fi
    use_proxies
    settle_image
    trap 'undo_container' EXIT
    trap 'cut_off=1; exit 130' INT
    trap 'cut_off=1; exit 129' HUP
    trap 'exit 141' PIPE
    trap 'cut_off=1; exit 143' TERM
    (umask 022 && mkdir -p "$program") 2>/dev/null || die "the folder $program can't be made: check its parent's permissions, or choose another with --dir"
    staging=$program/.staging.$$
    mkdir "$staging" || die "$program can't be written to: check its permissions and the space on its disk"
    settle_bundle
    stage_settings
    # It goes into its volume by standard input, and lies nowhere else.
    rm -f "$staging/etc/agent_key"
    printf 'Muster agent in a container of %s\n' "$image"
    fill_volumes
    start_container_anew
    installed=1
    rm -rf "$staging"
    trap - EXIT INT TERM HUP PIPE
    say "connected; its volumes are $name-programs, $name-state and $name-settings"
    say "Docker starts it on boot, if Docker itself is started then"
    printf '\n%s\n%s\n' "Scripts   they see only the container: its files, programs and users, not this host's; for those, --native" \
        "Manage    $program/deploy.sh --status, --logs, --update, --stop, --uninstall"
}

# Refuses to mix with what is there already.
look_at_container() {
    check_alone
    rm -rf "$program"/.staging.*
    if [ -n "$is_new" ] && is_installed; then
        need_installation
        docker rm --force "$name" >/dev/null 2>&1 || true
        return 0
    fi
    if [ -n "$is_new" ]; then
        [ ! -d "$program" ] || [ -z "$(ls -A "$program")" ] ||
            die "$program holds something else, perhaps an older installation: move it away, or choose another folder with --dir"
        [ "$(container_state "$name")" = missing ] ||
            die "there is a container $name already, and it was not made by this script: remove it, or choose another folder with --dir"
        ! docker volume inspect "$name-state" >/dev/null 2>&1 || had_state=1
        return 0
    fi
    need_installation
    # A kill between two containers left the one before aside.
    if [ "$(container_state "$name-before")" != missing ]; then
        if [ "$(container_state "$name")" = missing ]; then docker rename "$name-before" "$name"; else docker rm --force "$name-before" >/dev/null; fi
    fi
    old_server=$(kept_setting MUSTER_SERVER_URL)
    if [ -z "$yes" ] && { [ "$old_server" != "$server" ] || [ -n "$key$key_file" ]; }; then
        what="the key"
        [ "$old_server" = "$server" ] || what="the server ($old_server)"
        ask "An agent is installed here already; change $what?" ||
            die "an agent is installed in the container $name already: say --yes to change ${what%% (*}, or --uninstall it first"
    fi
    keep_jobs "it is made anew"
}

# Jobs live in the container and end with it: not without having been asked.
keep_jobs() {
    [ "$(container_state "$name")" = running ] || return 0
    if [ -n "$kill_executions" ]; then
        in_container end-executions || die "some jobs did not end: see deploy.sh --status"
    elif in_container status --json 2>/dev/null | grep -q '"command_id"'; then
        die "jobs run in the container $name and would end when $1: wait for them, or end them with deploy.sh --stop --kill-executions"
    fi
}

settle_image() {
    if [ -z "$image$version" ]; then
        image=$(recorded image)
        # The one that nobody has chosen follows the server's version where that is at hand.
        case $image in
        muster-agent:*) ! docker image inspect "muster-agent:$script_version" >/dev/null 2>&1 || image=muster-agent:$script_version ;;
        esac
    fi
    image=${image:-muster-agent:${version:-${script_version:-latest}}}
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 ||
        die "the image $image is neither here nor to be pulled: build it from Muster's Dockerfile.agent, name another with --image, or install a service of the host with --native"
}

# Settings and key come into the volumes once the server has been asked about them.
fill_volumes() {
    changed=1
    [ -z "$is_new" ] || record_container
    for volume in programs state settings; do
        docker volume create "$name-$volume" >/dev/null || die "the volume $name-$volume can't be made: see above"
    done
    [ ! -f "$staging/etc/ca.pem" ] || put_file /etc/muster/ca.pem 644 <"$staging/etc/ca.pem"
    tried=/etc/muster/agent_key
    if [ -n "$key" ]; then
        tried=/etc/muster/agent_key.new
        printf '%s\n' "$key" | put_file "$tried" 600
    fi
    verdict=$(container "$staging/etc/agent.env" --rm --env "MUSTER_API_KEY_FILE=$tried" --entrypoint /bin/sh "$image" -c "$contained_agent" sh doctor --brief 2>&1) || {
        verdict=$(printf '%s\n' "$verdict" | tail -n 1)
        die "${verdict:-the agent can not work with these settings}"
    }
    say "the server knows the key"
    check_pinned_key "$(in_volumes "$staging/etc/agent.env" 'cat /opt/muster/release_key 2>/dev/null || true' </dev/null)"
    [ -z "$release_key" ] || printf '%s\n' "$release_key" | put_file /opt/muster/release_key 644
    [ -z "$allow" ] || printf '{"allow": "%s"}\n' "$allow" | put_file /var/lib/muster/policy.json 644
    [ -z "$key" ] || in_volumes "$staging/etc/agent.env" "mv $tried /etc/muster/agent_key" </dev/null
}

# The container before it is kept until the new one is connected.
start_container_anew() {
    if [ -z "$is_new" ] && [ "$(container_state "$name")" != missing ]; then
        docker stop "$name" >/dev/null || die "the container $name could not be stopped"
        renamed=1
        docker rename "$name" "$name-before"
    fi
    container "$staging/etc/agent.env" --detach --name "$name" --restart unless-stopped --stop-timeout 30 "$image" >/dev/null ||
        die "the container does not start: see above"
    await_container || {
        docker logs --tail 5 "$name" >&2 || true
        die "the agent in the container does not connect within 30 s: see above"
    }
    mkdir -p "$settings"
    cp "$staging/etc/agent.env" "$settings/.agent.env.new"
    mv "$settings/.agent.env.new" "$settings/agent.env"
    [ ! -f "$staging/etc/ca.pem" ] || cp "$staging/etc/ca.pem" "$settings/ca.pem"
    keep_script
    record_container
    [ -z "$renamed" ] || docker rm --force "$name-before" >/dev/null || true
}

await_container() {
    tries=0
    until in_container status >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -le 30 ] || return 1
        sleep 1
    done
}

record_container() {
    printf 'layout=1\nscope=%s\nservice=docker\nname=%s\nimage=%s\n' "$scope" "$name" "$image" >"$program/installation.new"
    chmod 644 "$program/installation.new"
    mv "$program/installation.new" "$program/installation"
}

undo_container() {
    code=$?
    trap - EXIT INT TERM HUP PIPE
    [ -z "$cut_off" ] || printf 'deploy.sh: cut off; taking back what was begun\n' >&2
    [ -z "$installed" ] || exit "$code"
    set +e
    rm -rf "$staging"
    if [ -n "$is_new" ]; then
        keep_state=$had_state
        [ -z "$changed" ] || remove_container
        remove_container_files
    elif [ -n "$renamed" ] && [ "$(container_state "$name-before")" != missing ]; then
        docker rm --force "$name" >/dev/null 2>&1
        if docker rename "$name-before" "$name" && docker start "$name" >/dev/null; then
            printf 'deploy.sh: the container %s is as it was before\n' "$name" >&2
        fi
    fi
    exit "$code"
}

remove_container() {
    docker rm --force "$name" "$name-before" >/dev/null 2>&1 || true
    for volume in programs settings state; do
        [ "$volume$keep_state" = state1 ] || docker volume rm "$name-$volume" >/dev/null 2>&1 || true
    done
}

remove_container_files() {
    rm -rf "$program"/.staging.*
    rm -f "$settings/agent.env" "$settings/ca.pem" "$settings"/.*.new
    rmdir "$settings" 2>/dev/null || true
    rm -f "$program/deploy.sh" "$program/installation" "$program"/*.new
    rmdir "$program" 2>/dev/null || true
}

show_container() {
    now=$(container_state "$name")
    printf 'container   %s of %s: %s\n' "$name" "$(recorded image)" "$now"
    [ "$now" = running ] || exit 4
    code=0
    in_container status || code=$?
    if [ $code != 0 ]; then
        printf '\n'
        in_container doctor || true
    fi
    exit $code
}

start_container() {
    docker start "$name" >/dev/null || die "the container $name does not start: see docker logs $name"
    await_container || die "started, but not connected after 30 s: $program/deploy.sh --status says why"
    printf 'Started and connected\n'
}

stop_container() {
    keep_jobs "it stops"
    docker stop "$name" >/dev/null || die "the container $name could not be stopped"
    printf 'Stopped, also across a reboot; start it again with %s/deploy.sh --start\n' "$program"
}

# By the image's program: the one in the volume may be on trial and answer nothing.
update_container() {
    [ "$(container_state "$name")" = running ] || die "the container $name does not run: start it with --start, then ask for the update"
    docker exec "$name" /usr/lib/muster/muster-agent request-update ${version:+--version "$version"}
}

uninstall_container() {
    image=$(recorded image)
    keep_jobs "it is removed"
    docker stop "$name" >/dev/null 2>&1 || true
    if [ -z "$keep_state" ] && [ -r "$settings/agent.env" ]; then
        # Without the server everything is removed all the same; the agent says what is left to do.
        container "$settings/agent.env" --rm --entrypoint /bin/sh "$image" -c "$contained_agent" sh deregister 2>&1 | tail -n 1 || true
    fi
    remove_container
    remove_container_files
    if [ -n "$keep_state" ]; then printf 'Removed, but for the state in the volume %s-state\n' "$name"; else printf 'Removed\n'; fi
}

# A container that is there is looked after by Docker alone.
look_after_container() {
    need_installation
    check_owners
    need_engine
    case $action in
    status) show_container ;;
    logs) exec docker logs --follow --tail 100 "$name" ;;
    update) update_container ;;
    stop) stop_container ;;
    start) start_container ;;
    uninstall) uninstall_container ;;
    esac
}

main "$@"
