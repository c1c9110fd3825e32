#!/bin/sh
# Installs and manages Muster's agent on this host. `deploy.sh --help` lists the options.
#
# Contents; search for the section's name to jump to it:
#   COMMAND LINE          help, options and their checks
#   OUTPUT                messages that never fail the script
#   FOLDERS AND TRUST     where the installation is, and who may change it
#   SERVER AND DOWNLOADS  the server's address, certificates, curl and wget
#   PROGRAMS              the agent and the supervisor for this platform
#   SIGNATURES            release signatures, checked with openssl
#   RELEASES              the release to install, verified by Muster's own programs
#   SETTINGS              the key, agent.env, the host's policy
#   SERVICE MANAGERS      systemd, OpenRC, runit, cron, none
#   INSTALLATION          the steps of --key, and of an upgrade
#   ROLLBACK              what happens when a step fails
#   MANAGEMENT            --status, --logs, --update, --start, --stop, --uninstall
#   CONTAINERS            the same with Docker
#
# POSIX sh. The script consists of functions, and its last line calls `main`, so a download that was
# cut off runs nothing.
set -eu
umask 077
server_default=''
script_version=''
server_ca=''

# ==== COMMAND LINE ==============================================================================

usage() {
    (cat 2>/dev/null || :) <<'TEXT'
Installs and manages Muster's agent on this host.

  deploy.sh --key KEY [--server URL]        install the agent, or upgrade an installation
  deploy.sh --status                        show what the agent does; exit code 0 if it is connected
  deploy.sh --logs                          follow the agent's log
  deploy.sh --update [--version V]          update the agent to the version that the server assigns
                                            to it, or to V, and wait for the result; executions
                                            keep running
  deploy.sh --stop [--kill-executions]      stop the agent; executions keep running unless
                                            --kill-executions is given
  deploy.sh --start                         start the agent
  deploy.sh --uninstall [--keep-state]      deregister the agent and remove it from this host

Options for installing:
  --key KEY          agent key. Prefer --key-file: other users can see command lines
  --key-file FILE    file that contains only the agent key; - reads standard input, unless the
                     script itself comes from there. Without either, the script asks on a terminal
  --server URL       https://… or wss://…; default: the server that the script came from
  --name NAME        name of the agent on the server; default: the hostname. It counts when the agent is
                     installed for the first time
  --tag TAG          tag of the agent; repeatable. Counts as --name does, and only if the agent key trusts
                     its holders (muster keys create --trusts-holders)
  --user             install for the current user only, without root, in ~/.muster
  --dir DIR          keep everything in DIR instead of /opt, /etc, /var/lib and /var/log
  --allow WHAT       what the server may run: manifest (default: only scripts that this host
                     lists), library (also scripts of the server's library), shell (any command)
  --forbid LIST      what the server may not do to the agent, with commas: restart, update,
                     redeploy, shutdown, rekey (replace the agent key), services (keep programs
                     running); none allows all again
  --publisher KEYS   run scripts of the library only if one of these keys has signed them: public
                     keys of muster publisher keygen, with commas; none accepts any again
  --run-as USER      user that scripts run as; default: muster, created if missing. Not with --user
  --insecure         allow http:// and ws:// to other hosts. Anyone on the network path can read
                     the key
  --ca FILE          trust these certificates (PEM) in addition to the host's own
  --pin PIN          trust the authority of the server whose key this is: sha256//… from its install command
  --version V        install version V; required to go back to an older version
  --min-version V    accept no release below version V, now and later, even if a release key signed it
  --release-key FP   accept only releases signed by the key with this fingerprint; default: the
                     first key received over https://
  --from DIR         install the programs of a local build in DIR instead of the server's
  --docker           install in a container; default if a Docker engine answers. Scripts then see
                     only the container
  --native           install as a service of the host; default if no Docker engine answers
  --image IMAGE      container image; default: muster-agent:VERSION
  --yes              change the server, key or release key of an installation without asking

Options that widen what a container can reach; an upgrade keeps them:
  --host-network     share the host's network: scripts reach services on the host's loopback and
                     see its traffic's addresses
  --cap-add CAP      add a Linux capability such as NET_RAW; may be repeated. Programs in the image
                     can use it if they are setuid or have file capabilities
  --privileged       remove the container's isolation: a script that becomes root in the container
                     controls the host

The script uses HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY from the environment and keeps them
for the agent.
TEXT
}

main() {
    protect_output
    parse_arguments "$@"
    resolve_folders
    choose_mode
    case $mode:$action in
    docker:install) install_container ;;
    docker:*) manage_container ;;
    *:install) install_agent ;;
    *:status) show_status ;;
    *:logs) follow_logs ;;
    *:update) update_agent ;;
    *:stop) stop_agent ;;
    *:start) start_agent ;;
    *:uninstall) uninstall_agent ;;
    esac
}

parse_arguments() {
    action='' key='' key_file='' server='' scope='' dir='' allow='' forbid='' publisher='' run_as='' insecure='' ca='' agent_name='' agent_tags=''
    version='' min_version='' release_key='' pin='' from='' mode='' image='' yes='' kill_executions='' keep_state=''
    host_network='' capabilities='' privileged=''
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case $option in
        --*=*)
            set -- "${option#*=}" "$@"
            option=${option%%=*}
            ;;
        esac
        case $option in
        --key | --key-file | --server | --name | --tag | --dir | --allow | --forbid | --publisher | --run-as | --ca | --pin | --version | --min-version | --release-key | --from | --image | --cap-add)
            [ $# -gt 0 ] || usage_error "$option needs a value"
            value=$1
            shift
            [ -n "$value" ] || usage_error "$option needs a value"
            ;;
        esac
        case $option in
        --key) key=$value ;;
        --key-file) key_file=$value ;;
        --server) server=$value ;;
        --name) agent_name=$value ;;
        --tag) add_tag "$value" ;;
        --dir) dir=$value ;;
        --allow) allow=$value ;;
        --forbid) forbid=$value ;;
        --publisher) publisher=$value ;;
        --run-as) run_as=$value ;;
        --ca) ca=$value ;;
        --pin) pin=$value ;;
        --version) version=$value ;;
        --min-version) min_version=$value ;;
        --release-key) release_key=$value ;;
        --from) from=$value ;;
        --user) scope=user ;;
        --insecure) insecure=1 ;;
        --yes) yes=1 ;;
        --kill-executions) kill_executions=1 ;;
        --keep-state) keep_state=1 ;;
        --image) image=$value ;;
        --host-network) host_network=1 ;;
        --cap-add) add_capability "$value" ;;
        --privileged) privileged=1 ;;
        --docker | --native)
            [ -z "$mode" ] || [ "$mode" = "${option#--}" ] || usage_error "--docker and --native can't be combined"
            mode=${option#--}
            ;;
        --status | --logs | --update | --start | --stop | --uninstall)
            [ -z "$action" ] || usage_error "$option and --$action can't be combined"
            action=${option#--}
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) usage_error "unknown option '$option'" ;;
        esac
    done
    check_arguments
}

# Duplicates are dropped, so that an upgrade with the same options changes nothing.
add_capability() {
    case $1 in *[!A-Z_]*) usage_error "--cap-add takes the name of a capability such as NET_RAW, not '$1'" ;; esac
    case " $capabilities " in *" $1 "*) ;; *) capabilities="${capabilities:+$capabilities }$1" ;; esac
}

add_tag() {
    case $1 in *[!A-Za-z0-9._:/-]*) usage_error "--tag takes 1 to 64 letters, digits and . _ : / -, not '$1'" ;; esac
    [ ${#1} -le 64 ] || usage_error "--tag takes 1 to 64 letters, digits and . _ : / -, not '$1'"
    case ",$agent_tags," in *",$1,"*) ;; *) agent_tags="${agent_tags:+$agent_tags,}$1" ;; esac
}

check_arguments() {
    [ -z "$key" ] || [ -z "$key_file" ] || usage_error "--key and --key-file can't be combined"
    case $allow in
    '' | manifest | library | shell) ;;
    *) usage_error "--allow takes manifest, library or shell, not '$allow'" ;;
    esac
    for word in $(printf %s "$forbid" | tr ',' ' '); do
        case $word in
        restart | update | redeploy | shutdown | rekey | services) ;;
        none) [ "$forbid" = none ] || usage_error "--forbid none can't be combined with other words" ;;
        *) usage_error "--forbid takes restart, update, redeploy, shutdown, rekey, services or none, with commas between them, not '$word'" ;;
        esac
    done
    for word in $(printf %s "$publisher" | tr ',' ' '); do
        case $word in
        none) [ "$publisher" = none ] || usage_error "--publisher none can't be combined with keys" ;;
        *[!A-Za-z0-9+/=]*) usage_error "--publisher takes public keys with commas between them, not '$word'" ;;
        *) [ ${#word} -eq 44 ] || usage_error "--publisher takes public keys with commas between them, not '$word'" ;;
        esac
    done
    case $agent_name in *[\'\"\\\$\`]*) usage_error "--name takes no quotes, backslashes and dollar signs; use muster agents rename for them" ;; esac
    [ -z "$action" ] || [ -z "$key$key_file" ] || usage_error "--$action takes no key"
    [ -z "$action" ] || [ -z "$agent_name$agent_tags" ] || usage_error "--name and --tag are for installing"
    [ -z "$kill_executions" ] || [ "$action" = stop ] || [ "$action" = uninstall ] ||
        usage_error "--kill-executions requires --stop or --uninstall"
    [ -z "$keep_state" ] || [ "$action" = uninstall ] || usage_error "--keep-state requires --uninstall"
    action=${action:-install}
    check_version_option --version "$version"
    check_version_option --min-version "$min_version"
    [ -z "$min_version" ] || [ -z "$from" ] || usage_error "--min-version is for releases, and --from installs a local build"
    case $action in
    install) ;;
    update) [ -z "$release_key$from$min_version" ] || usage_error "--update takes only --version; --min-version, --release-key and --from are for installing" ;;
    *) [ -z "$version$release_key$from$min_version" ] || usage_error "--$action takes neither --version nor --min-version nor --release-key nor --from" ;;
    esac
    [ "$action" = install ] || [ -z "$host_network$capabilities$privileged" ] ||
        usage_error "--host-network, --cap-add and --privileged are for installing"
    case $image in -* | *[!A-Za-z0-9._/:@-]*) usage_error "--image takes the name of an image such as registry.example.com/muster-agent:0.2.0, not '$image'" ;; esac
    check_release_key
    case $pin in
    '' | sha256//*) ;;
    *) usage_error "--pin takes the pin of a key such as sha256//…, from the server's install command, not '$pin'" ;;
    esac
    case $pin in *[!A-Za-z0-9+/=]*) usage_error "--pin takes one pin of a key, not '$pin'" ;; esac
    [ -z "$pin" ] || [ "$action" = install ] || usage_error "--pin is for installing"
    if [ "$scope" = user ] && [ -n "$run_as" ]; then
        usage_error "--run-as needs a system installation: without root, scripts run as the current user"
    fi
    case $run_as in *[!A-Za-z0-9_.-]*) usage_error "--run-as takes the name of a user, not '$run_as'" ;; esac
}

# check_version_option OPTION VERSION
check_version_option() {
    case $2 in
    '') ;;
    *[!0-9A-Za-z.+-]* | [!0-9]* | *..*) usage_error "$1 takes a version such as 0.2.0, not '$2'" ;;
    esac
}

# The fingerprint as the programs write it: 64 lower-case hex digits.
check_release_key() {
    release_key=$(printf %s "$release_key" | tr 'ABCDEF' 'abcdef')
    case $release_key in
    '') return 0 ;;
    *[!0-9a-f]*) ;;
    *) [ ${#release_key} != 64 ] || return 0 ;;
    esac
    usage_error "--release-key takes the fingerprint that 'muster release keygen' prints, 64 hex digits"
}

# ==== OUTPUT ====================================================================================
#
# Nothing here fails: a caller who closes the pipe (`| head -1`) or whose disk is full still gets a
# complete installation. The subshells matter: in some shells text that could not be written stays in
# a buffer, and would end up in the next file that the shell writes.

# A closed descriptor would be reused by the next file that a command opens.
protect_output() {
    (: 3>&2) || exec 2>/dev/null
    (: 3>&1) 2>/dev/null || exec >/dev/null
    trap '' PIPE
}

print() { (printf '%s\n' "$*") 2>/dev/null || :; }

step() { print "  $*"; }

warn() { (printf 'deploy.sh: %s\n' "$*" >&3) 3>&2 2>/dev/null || :; }

die() {
    warn "$*"
    exit 1
}

usage_error() {
    warn "$*; see deploy.sh --help"
    exit 2
}

has() { command -v "$1" >/dev/null 2>&1; }

# ==== FOLDERS AND TRUST =========================================================================

# Sets scope and the installation's folders. A copy of this script inside an installation manages that
# installation.
resolve_folders() {
    user_id=$(id -u)
    if [ -z "$dir$scope" ] && is_file; then
        own_folder=$(cd "$(dirname "$0")" && pwd)
        if [ -f "$own_folder/installation" ]; then
            problem=$(find_untrusted own "$own_folder" "$own_folder/installation")
            [ -z "$problem" ] ||
                die "$problem, so the installation in $own_folder is not trusted: run this script as the user who owns it, or copy deploy.sh to a folder of your own"
            dir=$own_folder
            scope=$(recorded scope "$own_folder")
            case $scope:$dir in system:/opt/muster | user:"${HOME:-}/.muster") dir='' ;; esac
        fi
    fi
    # Without root, an installation of this user comes first.
    if [ -z "$scope" ] && [ "$user_id" != 0 ] && [ "$action" != install ] && [ -z "$dir" ] &&
        [ -f "${HOME:-/nonexistent}/.muster/installation" ]; then
        scope=user
    fi
    scope=${scope:-system}
    [ "$scope" = user ] || [ "$user_id" = 0 ] ||
        if [ "$action" = install ]; then
            die "a system installation needs root: put sudo before sh, or use --user to install for the current user only"
        else
            die "this needs root because the agent is installed for the whole system: run it with sudo"
        fi
    if [ -n "$dir" ]; then
        case $dir in
        /*) ;;
        *) dir=$(pwd)/$dir ;;
        esac
        dir=$(real_path "$dir")
        case $dir in
        '') die "--dir needs a folder other than /" ;;
        */./* | */../* | */. | */..) die "the folder '$dir' can't be resolved: use an absolute path without . and .. for --dir" ;;
        esac
        case $scope:$dir in system:/opt/muster | user:"$(real_path "${HOME:-/}/.muster")") dir='' ;; esac
    fi
    name=muster-agent
    if [ "$scope" = system ] && [ -z "$dir" ]; then
        program=/opt/muster settings=/etc/muster state=/var/lib/muster logs=/var/log/muster
    else
        if [ -z "$dir" ]; then
            [ -n "${HOME:-}" ] || die "HOME is not set, so --user has no folder: set HOME, or use --dir DIR"
            dir=$(real_path "$HOME/.muster")
        else
            # A host can have several installations, each with its own service.
            name=muster-agent-$(printf %s "$dir" | cksum | cut -d' ' -f1)
        fi
        program=$dir settings=$dir/etc state=$dir/state logs=$dir/log
    fi
    case $program in
    *[!A-Za-z0-9_./+@-]*) die "the path '$program' contains characters that service managers can't handle: choose another folder with --dir" ;;
    esac
    bin=$program/versions/current/bin
    check_trust
    ! is_installed || name=$(recorded name)
}

# True if this script was read from a file. When it is piped into a shell, $0 is the shell's name, and a
# file of that name in the working folder can belong to anyone.
is_file() {
    case $0 in */* | *.sh) [ -f "$0" ] && grep -q '^server_default=' "$0" 2>/dev/null ;; *) false ;; esac
}

# real_path PATH: the path without links, as the kernel names a program that runs from there.
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

# Refuses folders and files that another user can change, before anything in them is believed or run:
# otherwise that user decides what runs as the owner of the installation, who is usually root.
check_trust() {
    problem=''
    for folder in "$program" "$settings" "$state"; do
        near=$(real_path "$folder")
        set --
        while [ -n "$near" ]; do
            near=${near%/*}
            set -- "$@" "${near:-/}"
        done
        problem=$(find_untrusted parent "$@")
        [ -z "$problem" ] || break
    done
    # The names are fixed or made of harmless characters, and a pattern without a match is a file that
    # does not exist.
    [ -n "$problem" ] || problem=$(find_untrusted own \
        "$program" "$program/installation" "$program/.installing" "$program/release_key" "$program/release_floor" \
        "$program/trial.json" "$program/run" "$program/deploy.sh" \
        "$program/versions" "$program"/versions/* "$program"/versions/*/bin "$program"/versions/*/bin/* \
        "$settings" "$settings/agent.env" "$settings/agent_key" "$settings/ca.pem" \
        "$state" "$state/policy.json" "$state/supervisor.json" "$state/made_user")
    runs_as=root
    [ "$scope" = system ] || runs_as='this user'
    [ -z "$problem" ] || die "$problem, and programs from $program would run as $runs_as: correct owner and permissions, or choose another folder with --dir"
}

# find_untrusted RULE PATH…: prints the first reason why another user could change one of these paths, or
# nothing. Paths that don't exist are skipped.
#
# Rule `own`: the path must belong to the current user, and no other user may write to it. Rule `parent`:
# the path may also belong to root, and may be sticky, such as /tmp, where users replace only their own
# entries. Outside system installations, parents may belong to any user: that is the current user's choice.
find_untrusted() {
    rule=$1
    shift
    # A group with the user's own name has no other members.
    own_group=0
    [ "$(id -gn)" != "$(id -un)" ] || own_group=$(id -g)
    # The columns of `ls` are standard; `stat` is not installed everywhere.
    # shellcheck disable=SC2012
    LC_ALL=C ls -ldn -- "$@" 2>/dev/null | awk -v me="$user_id" -v group="$own_group" -v rule="$rule" -v scope="${scope:-system}" '
        {
            path = $9
            is_strict = rule == "own" || scope == "system"
            if (is_strict && $3 != me && !(rule == "parent" && $3 == 0)) {
                print path " belongs to another user"
                exit
            }
            # A link has no permissions, and only the owner of its folder replaces it.
            if ($1 ~ /^l/ || (rule == "parent" && substr($1, 10, 1) ~ /[tT]/)) next
            if (substr($1, 9, 1) == "w") {
                print "every user can write to " path
                exit
            }
            if (is_strict && substr($1, 6, 1) == "w" && $4 != 0 && $4 != group) {
                print "a group can write to " path
                exit
            }
        }'
}

# recorded NAME [FOLDER]: a value of the installation's record.
recorded() { sed -n "s/^$1=//p" "${2:-$program}/installation" 2>/dev/null || true; }

is_installed() { [ -f "$program/installation" ]; }

require_installation() {
    is_installed || die "no agent is installed in $program: install it with --key, or name its folder with --dir"
    service=$(recorded service)
    case $service in
    systemd | openrc | runit | cron | none | docker) ;;
    *) die "$program/installation is damaged: it names no service" ;;
    esac
    layout=$(recorded layout)
    [ "$layout" = 1 ] || die "the installation in $program was made by another version of this script: use $program/deploy.sh"
}

# ==== SERVER AND DOWNLOADS ======================================================================

# Sets server, as the agent takes it, and web, the same for downloads.
resolve_server() {
    [ -n "$server" ] || server=$(current_setting MUSTER_SERVER_URL)
    [ -n "$server" ] || server=$server_default
    [ -n "$server" ] || die "no server: name it with --server https://muster.example.com"
    server=${server%/}
    case $server in
    https://* | wss://*) is_plain='' ;;
    http://* | ws://*) is_plain=1 ;;
    *://*) die "the server's address starts with ${server%%://*}://: use https:// or wss://" ;;
    *) die "the server's address '$server' lacks https:// or wss://" ;;
    esac
    rest=${server#*://}
    case $rest in
    '' | *[!A-Za-z0-9.:/_~-]*)
        case $rest in
        '['*']'*) ;;
        *) die "the server's address '$server' is invalid: use an address such as https://muster.example.com" ;;
        esac
        ;;
    esac
    if [ -n "$is_plain" ] && [ -z "$insecure" ] && [ -z "$(current_setting MUSTER_INSECURE)" ]; then
        host=${rest%%/*}
        case $host in '[::1]' | '[::1]:'*) host=localhost ;; esac
        host=${host%%:*}
        case $host in
        127.*[!0-9.]*) refuse_plain ;;
        localhost | 127.*) ;;
        *) refuse_plain ;;
        esac
    fi
    case $server in
    wss://*) web=https://${server#wss://} ;;
    ws://*) web=http://${server#ws://} ;;
    *) web=$server ;;
    esac
    # Downloads never leave this protocol, even if a server or proxy redirects.
    protocol='=http'
    [ -n "$is_plain" ] || protocol='=https'
}

refuse_plain() {
    die "$server is not encrypted, and the network could read the key: use an https:// address; the server's documentation explains how to set one up"
}

# A server that issues its certificate itself writes its authority into the script, or --pin shows which one is
# right. Sets ca to a file with it, in addition to what the host trusted for the same server before. Only the agent
# gets this file.
trust_authority_of_server() {
    authority=''
    if [ -n "$pin" ]; then
        [ -z "$is_plain" ] || die "--pin needs an https:// address: $server is not encrypted, and has no key to compare"
        fetch_authority
        authority=$(cat "$staging/fetched.pem")
    elif [ "$server" = "$server_default" ]; then
        authority=$server_ca
    fi
    [ -n "$authority" ] || return 0
    trusted=$staging/server_ca.pem
    : >"$trusted"
    if [ -n "$ca" ]; then
        # A file that can't be read is reported with the others.
        [ -r "$ca" ] || return 0
        cat "$ca" >"$trusted"
    elif [ -f "$settings/ca.pem" ] && [ "$(current_setting MUSTER_SERVER_URL)" = "$server" ]; then
        cat "$settings/ca.pem" >"$trusted"
    fi
    tr -d '\r\n' <"$trusted" | grep -q -F -e "$(printf %s "$authority" | tr -d '\r\n')" ||
        printf '%s\n' "$authority" >>"$trusted"
    ca=$trusted
}

# Downloads the server's authority from a server that proves to have the pinned key.
fetch_authority() {
    fetched=$staging/fetched.pem
    if has curl; then
        curl -fsS --proto "$protocol" --connect-timeout 15 --max-time 60 --pinnedpubkey "$pin" -k -o "$fetched" "$web/install/ca.pem" 2>"$staging/curl" || {
            code=$?
            reason=$(sed -n 's/^curl: ([0-9]*) //p' "$staging/curl" | tail -n 1 | cut -c 1-160)
            case $code in
            90) refuse_key ;;
            35)
                ! is_plain_answer "$reason" || refuse_plain_answer
                die "failed to download the certificate authority of $web: $reason"
                ;;
            22) die "$web has no certificate authority of its own: omit --pin" ;;
            *) die "failed to download the certificate authority of $web: $reason" ;;
            esac
        }
    elif wget --help 2>&1 | grep -q -e --pinnedpubkey; then
        wget -nv -T 60 --max-redirect=0 --no-check-certificate --pinnedpubkey="$pin" -O "$fetched" "$web/install/ca.pem" 2>"$staging/wget" || {
            ! grep -q 'public key does not match' "$staging/wget" || refuse_key
            die "failed to download the certificate authority of $web: $(tail -n 1 "$staging/wget" | cut -c 1-200)"
        }
    else
        die "this host's wget can't check --pin: install curl, or use --ca with the server's ca.pem"
    fi
    grep -q -e '-----BEGIN CERTIFICATE-----' "$fetched" || die "$web sent no certificate authority: check the address"
}

refuse_key() {
    die "the key of $web is not the one of --pin, so nothing was downloaded: check the address and the pin, and if both are right, find out who answers for this server"
}

# Sets bundle, for downloads: the host's certificates and those of --ca.
resolve_certificates() {
    bundle=''
    trust_authority_of_server
    if [ -n "$ca" ]; then
        grep -q -e '-----BEGIN CERTIFICATE-----' "$ca" 2>/dev/null || die "$ca contains no certificate in PEM form, or can't be read"
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

# fetch PATH FILE: downloads from the server, or ends the script with the reason.
fetch() { download "$1" "$2" || fail_download "$1" 404; }

# download PATH FILE: as `fetch`, but returns 1 if the server has no such file.
download() {
    if has curl; then
        download_with_curl "$1" "$2"
    elif has wget; then
        case "${https_proxy:-} ${http_proxy:-} ${all_proxy:-}" in
        *socks*) die "this host's wget can't use a SOCKS proxy: install curl" ;;
        esac
        download_with_wget "$1" "$2"
    else
        die "this host has neither curl nor wget: install one of them"
    fi
}

download_with_curl() {
    code=0
    status=$(curl -fsS --proto "$protocol" --proto-redir "$protocol" --connect-timeout 15 --max-time 600 --retry 2 ${bundle:+--cacert "$bundle"} -o "$2" -w '%{http_code}' "$web$1" 2>"$staging/curl") || code=$?
    reason=$(sed -n 's/^curl: ([0-9]*) //p' "$staging/curl" | tail -n 1 | cut -c 1-160)
    case $code in
    0)
        case $status in 3??) refuse_redirect ;; esac
        return 0
        ;;
    5) die "the proxy's name can't be resolved: check HTTPS_PROXY" ;;
    6) die "the host name in $web can't be resolved: check the address and this host's DNS" ;;
    7) die "$web can't be reached ($reason): check the address, the port, the firewall and HTTPS_PROXY" ;;
    22)
        [ "$status" != 404 ] || return 1
        fail_download "$1" "$status"
        ;;
    23) die "no space is left in $program to store the download" ;;
    28) die "$web does not answer: check the address, the firewall and HTTPS_PROXY" ;;
    35 | 51 | 58 | 60)
        ! is_plain_answer "$reason" || refuse_plain_answer
        die "the certificate of $web is not trusted: provide the certificate of its authority with --ca FILE ($reason)"
        ;;
    56)
        case $reason in
        *CONNECT* | *proxy*) die "the proxy refused the connection to $web ($reason): check user and password in HTTPS_PROXY" ;;
        *) die "the connection to $web broke ($reason): try again" ;;
        esac
        ;;
    97) die "the proxy refused the connection to $web ($reason): check user and password in HTTPS_PROXY or ALL_PROXY" ;;
    77) die "the certificates in $ca can't be read: use a PEM file for --ca" ;;
    *) die "failed to download $web$1: $reason" ;;
    esac
}

# Each kind of wget reports errors in its own way. GNU's can be told not to follow redirects. BusyBox's
# always follows, so its download is dropped afterwards: nothing of a download is used before that. It also
# lacks -T in some builds, and crashes there.
download_with_wget() {
    options=-S
    if wget --help 2>&1 | grep -q -e --max-redirect; then options='-nv -T 60 --max-redirect=0'; fi
    limit=''
    ! has timeout || limit='timeout 600'
    code=0
    # shellcheck disable=SC2086 # several words
    $limit wget $options ${bundle:+--ca-certificate="$bundle"} -O "$2" "$web$1" 2>"$staging/wget" || code=$?
    ! grep -q -i -e '^ *Location:' -e 'redirections exceeded' -e '^ *HTTP/[0-9.]* 3[0-9][0-9]' "$staging/wget" || refuse_redirect
    if [ -z "$is_plain" ] && grep -q 'certificate validation not implemented' "$staging/wget"; then
        die "this host's wget can't check certificates: install curl"
    fi
    [ $code != 0 ] || return 0
    ! grep -q 404 "$staging/wget" || return 1
    ! is_plain_answer "$(cat "$staging/wget")" || refuse_plain_answer
    die "failed to download $web$1: $(tail -n 1 "$staging/wget" | cut -c 1-200)"
}

# is_plain_answer REASON: what the libraries of curl and wget say about a server that does not answer in TLS.
is_plain_answer() {
    case $1 in
    *'wrong version number'* | *'unexpected TLS packet'* | *'packet length too long'* | *'http request'* | *'record layer failure'*) return 0 ;;
    esac
    return 1
}

refuse_plain_answer() { die "$web does not answer in TLS: this server speaks plain http; use http:// and --insecure on a network that you trust, or give the server a certificate"; }

refuse_redirect() { die "$web redirects to another address: use that address for --server"; }

# fail_download PATH STATUS: the server answered, but not with the file.
fail_download() {
    case $1:$2 in
    /install/*:404) die "$web has no agent for ${platform:=this platform}: put its programs into install/$platform/ of the server's data directory, or check the address" ;;
    *) die "$web answered ${2:-with an error} for $1: check that this is the address of a Muster server" ;;
    esac
}

# sha256_of FILE: 64 lower-case hex digits.
sha256_of() {
    if has sha256sum; then
        sha256sum "$1"
    elif has shasum; then
        shasum -a 256 "$1"
    else
        openssl dgst -sha256 -r "$1"
    fi | cut -d' ' -f1
}

# ==== PROGRAMS ==================================================================================

resolve_platform() {
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

# Puts both programs into the staging folder, with checksums and, where possible, signature checked
# before they run. If a release key is pinned and the installed programs can verify releases, those
# download and verify the new ones (`resolve_release`), and nothing is downloaded here.
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
            [ -f "$from/$file" ] || die "$from has no $file: build it first, or omit --from"
            cp "$from/$file" "$staging/bin/$file" || die "no space is left in $program for a copy of $file"
        done
    else
        has sha256sum || has shasum || has openssl ||
            die "this host has neither sha256sum, shasum nor openssl: install one of them"
        step "downloading the programs for $platform from $web"
        fetch "/install/$platform/SHA256SUMS" "$staging/sums"
        for file in muster-agent muster-supervisor; do
            expected=$(sed -n "s/^\([0-9a-f]\{64\}\)  $file\$/\1/p" "$staging/sums")
            [ -n "$expected" ] || die "$web lists no checksum for $file: check that this is the address of a Muster server"
            fetch "/install/$platform/$file" "$staging/bin/$file"
            [ "$(sha256_of "$staging/bin/$file")" = "$expected" ] ||
                die "the checksum of $file is wrong, so it was not installed: try again, and if it stays wrong, find out what changes downloads on the network"
        done
        verify_programs
    fi
    read_new_version
}

# Sets new_version by running the staged agent, which also shows that it runs on this host.
read_new_version() {
    chmod 755 "$staging/bin/muster-agent" "$staging/bin/muster-supervisor"
    new_version=$("$staging/bin/muster-agent" version 2>/dev/null | sed -n 's/^muster-agent //p') || true
    if [ -z "$new_version" ]; then
        printf '#!/bin/sh\n' >"$staging/bin/try" && chmod 755 "$staging/bin/try"
        "$staging/bin/try" 2>/dev/null ||
            die "programs can't run from $program because its disk is mounted noexec: choose another folder with --dir"
        die "the program for $platform does not run on this host: it was built for another processor or C library (compare ldd --version here and on the build host)"
    fi
}

# ==== SIGNATURES ================================================================================
#
# A program can't vouch for itself. Where the host has OpenSSL 3, the signature of a downloaded program
# is checked before the program runs for the first time. docs/RELEASES.md describes what is signed: an
# Ed25519 signature over a context, a NUL and the document.

# Dies unless the staged programs belong to a release that a trusted key has signed. Without OpenSSL 3
# the programs are left to `resolve_release`. A server that has not published the version serves its own
# build, which is not signed, and which is accepted only if no key was asked for.
verify_programs() {
    openssl pkeyutl -help 2>&1 | grep -q -e -rawin || return 0
    signed=$staging/signed
    mkdir -p "$signed"
    # The version is read from the file, as the program must not run yet.
    # grep goes first: sed would search every line of a large program for the beginning of the stamp.
    stamp=$(LC_ALL=C tr -c '0-9A-Za-z.:+-' '\n' <"$staging/bin/muster-agent" | grep -F muster-version: |
        sed -n 's/^.*muster-version:\([0-9][0-9A-Za-z.+-]*\)$/\1/p' | awk 'NR == 1')
    if [ -z "$stamp" ] || ! download "/install/releases/$stamp/release.json" "$signed/release.json"; then
        [ -z "$release_key$pinned$min_version" ] || refuse_unsigned "$stamp"
        return 0
    fi
    fetch "/install/releases/$stamp/release.sig" "$signed/release.sig"
    fetch /install/releases/keys.json "$signed/keys.json"
    signer=$(json_value key <"$signed/release.sig")
    is_signed_by "$signer" "$(json_value signature <"$signed/release.sig")" 'muster release 1' "$signed/release.json" ||
        die "release $stamp is not installed: its signature is wrong (bad_signature), and none of its programs was run"
    trusted=${release_key:-$pinned}
    if [ -n "$trusted" ] && ! is_successor "$trusted" "$signer"; then
        die "release $stamp is not installed: it is signed by the key $(fingerprint_of "$signer"), and this host trusts $trusted (untrusted_key)"
    fi
    manifest=$(tr -d ' \t\r\n' <"$signed/release.json")
    [ "$(printf '%s\n' "$manifest" | sed -n 's/^{"format":1,"version":"\([^"]*\)".*/\1/p')" = "$stamp" ] ||
        die "release $stamp is not installed: its manifest is of another version (wrong_version)"
    for floor in "$min_version" "$(cat "$program/release_floor" 2>/dev/null || true)"; do
        ! is_below "$stamp" "$floor" ||
            die "release $stamp is not installed: it is below $floor, the lowest version that this host accepts (below_floor), and none of its programs was run"
    done
    for file in muster-agent muster-supervisor; do
        expected=$(printf '%s\n' "$manifest" | sed -n "s/.*\"$platform\":\[\([^]]*\)\].*/\1/p" | tr '}' '\n' |
            sed -n "/\"name\":\"$file\"/s/.*\"sha256\":\"\([0-9a-f]\{64\}\)\".*/\1/p")
        [ "$(sha256_of "$staging/bin/$file")" = "$expected" ] ||
            die "release $stamp is not installed: $file differs from the signed checksum (wrong_sum), and none of its programs was run"
    done
    step "openssl confirms the signature of release $stamp"
}

refuse_unsigned() {
    die "$web has published no release${1:+ $1}, and this host accepts signed releases only: publish it, or install a local build with --from"
}

# is_below VERSION FLOOR: true if VERSION is lower, and false where only their previews differ, which the
# programs compare. An empty floor is below everything.
is_below() {
    [ -n "$2" ] && printf '%s %s\n' "${1%%+*}" "${2%%+*}" | awk '{
        split($1, a, "-"); split($2, b, "-"); split(a[1], x, "."); split(b[1], y, ".")
        for (i = 1; i <= 3; i++) if (x[i] + 0 != y[i] + 0) exit !(x[i] + 0 < y[i] + 0)
        exit !($1 ~ /-/ && $2 !~ /-/)
    }'
}

# json_value NAME: the first text of this name in the JSON document on standard input.
json_value() { tr -d ' \t\r\n' | sed -n "s|.*\"$1\":\"\([A-Za-z0-9+/=]*\)\".*|\1|p"; }

# public_key KEY: a raw Ed25519 key, in base64, as the DER file that openssl reads.
public_key() {
    printf '\060\052\060\005\006\003\053\145\160\003\041\000'
    printf %s "$1" | openssl base64 -d -A
}

# fingerprint_of KEY: SHA-256 of the raw key.
fingerprint_of() {
    printf %s "$1" | openssl base64 -d -A >"$signed/key"
    sha256_of "$signed/key"
}

# is_signed_by KEY SIGNATURE CONTEXT FILE; key and signature in base64.
is_signed_by() {
    public_key "$1" >"$signed/key.der"
    printf %s "$2" | openssl base64 -d -A >"$signed/signature"
    { printf '%s\000' "$3"; cat "$4"; } >"$signed/message"
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$signed/key.der" -rawin -in "$signed/message" -sigfile "$signed/signature" >/dev/null 2>&1
}

# is_successor FINGERPRINT KEY: true if KEY has this fingerprint, or signed statements lead from there to KEY.
is_successor() {
    reached=$1 statements=0
    tr -d ' \t\r\n' <"$signed/keys.json" | tr '}' '\n' |
        sed -n 's|.*"old":"\([A-Za-z0-9+/=]*\)","new":"\([A-Za-z0-9+/=]*\)","signature":"\([A-Za-z0-9+/=]*\)".*|\1 \2 \3|p' >"$signed/statements"
    while [ "$reached" != "$(fingerprint_of "$2")" ]; do
        statements=$((statements + 1))
        [ $statements -le 16 ] || return 1
        next=''
        while [ -z "$next" ] && read -r old new signature; do
            [ "$(fingerprint_of "$old")" = "$reached" ] || continue
            printf %s "$new" | openssl base64 -d -A >"$signed/new"
            ! is_signed_by "$old" "$signature" 'muster release key change 1' "$signed/new" || next=$new
        done <"$signed/statements"
        [ -n "$next" ] || return 1
        reached=$(fingerprint_of "$next")
    done
}

# ==== RELEASES ==================================================================================

# Decides on the release, and replaces the staged programs by those of another version if one was asked
# for. Muster's own programs download and verify it. Sets new_key and new_floor, which are pinned later.
resolve_release() {
    new_key='' new_floor=''
    # Without either, the newest.
    wanted=${version:-$new_version}
    if [ -n "$from" ]; then
        # A local build is not signed: the person who installs it vouches for it.
        [ "$wanted" = "$new_version" ] || die "version $version is not available: $from contains $new_version"
        new_key=$release_key
        return 0
    fi
    if ! "$tools/muster-supervisor" verify-release --help >/dev/null 2>&1; then
        [ -z "$release_key$pinned" ] || die "$web offers $new_version, which can't verify releases: publish a newer release, or install a local build with --from"
        [ "$wanted" = "$new_version" ] || die "version $version is not available: $web offers $new_version"
        return 0
    fi
    release=$staging/release
    mkdir -p "$release/bin"
    # Present programs are not downloaded again. They are copied because a download may append to them.
    [ -z "$new_version" ] || [ "$wanted" != "$new_version" ] || cp "$staging/bin/muster-agent" "$staging/bin/muster-supervisor" "$release/bin/"
    # The download itself continues as long as bytes arrive, however slowly.
    limit=''
    ! has timeout || limit='timeout 900'
    # shellcheck disable=SC2086 # several words
    wanted=$(with_settings "$staging/etc" $limit "$tools/muster-agent" fetch-release ${wanted:+--version "$wanted"} --into "$release" 2>"$staging/fetched") || {
        wanted=${version:-$new_version}
        if ! grep -qs '"code":"no_release"' "$release/fetch_error.json"; then
            die "failed to download ${wanted:+release }${wanted:-the newest release}: $(sed -n 's/^muster-agent: //p' "$staging/fetched" | tail -n 1)"
        fi
        [ "$wanted" = "$new_version" ] || die "version $version is not available: $web has not published it${new_version:+, and offers $new_version}"
        [ -z "$release_key$pinned$min_version" ] || refuse_unsigned "$new_version"
        return 0
    }
    any_key=''
    [ -n "$release_key$pinned" ] || case $web in https://*) ;; *) any_key=1 ;; esac
    verified=$("$tools/muster-supervisor" verify-release --folder "$release" --version "$wanted" --dir "$program" ${release_key:+--release-key "$release_key"} ${any_key:+--any-key} ${min_version:+--min-version "$min_version"} 2>&1) ||
        die "release $wanted is not installed: $(printf '%s\n' "$verified" | tail -n 1)"
    mv "$release/bin/muster-agent" "$release/bin/muster-supervisor" "$staging/bin/"
    read_new_version
    if [ -z "$any_key" ]; then
        new_key=$(printf '%s\n' "$verified" | sed -n 's/^key=//p')
        new_floor=$(printf '%s\n' "$verified" | sed -n 's/^floor=//p')
        step "release $wanted is signed by the key $new_key"
    else
        new_floor=$min_version
        step "release $wanted is complete; over http:// no key is pinned for the next releases: use --release-key to pin one"
    fi
}

# ==== SETTINGS ==================================================================================

# current_setting NAME: the value in an existing installation.
current_setting() { sed -n "s/^$1='\(.*\)'\$/\1/p" "$settings/agent.env" 2>/dev/null || true; }

# Sets key: from the options, a file, the existing installation or a person at the terminal.
resolve_key() {
    if [ "$key_file" = - ]; then
        is_file || die "the script itself comes from standard input, so the key can't: use a file for --key-file"
        IFS= read -r key || [ -n "$key" ] || die "standard input contains no key"
    elif [ -n "$key_file" ]; then
        [ ! -d "$key_file" ] || die "$key_file is a folder: name the file that contains the key"
        [ -r "$key_file" ] || die "the key file $key_file can't be read: check the path and its permissions"
        key=$(tr -d ' \t\r\n' <"$key_file")
        [ -n "$key" ] || die "the key file $key_file is empty"
    elif [ -z "$key" ] && [ -r "$settings/agent_key" ]; then
        key=$(cat "$settings/agent_key")
    elif [ -z "$key" ]; then
        ask_key
    fi
    [ -n "$key" ] || die "no key: create one with 'muster keys create NAME', and pass it with --key or --key-file"
    case $key in
    mst_live_*) die "this is an API key for people and programs: create an agent key with 'muster keys create NAME'" ;;
    mst_agent_*[!A-Za-z0-9_-]*) die "the key contains invalid characters: copy it again" ;;
    mst_agent_????????????????????????????????*) ;;
    mst_agent_*) die "the key is too short: copy all of it" ;;
    *) die "this is not an agent key, which starts with mst_agent_: create one with 'muster keys create NAME'" ;;
    esac
}

# A key that is typed appears in no shell history, log or process list.
ask_key() {
    { [ -t 2 ] && : </dev/tty; } 2>/dev/null || return 0
    printf 'Agent key: ' >/dev/tty
    terminal=$(stty -g </dev/tty 2>/dev/null) || terminal=''
    stty -echo </dev/tty 2>/dev/null || true
    IFS= read -r key </dev/tty || key=''
    [ -z "$terminal" ] || stty "$terminal" </dev/tty
    printf '\n' >/dev/tty
}

# add_setting FILE NAME VALUE: one line that sh and service managers read alike.
add_setting() {
    [ -n "$3" ] || return 0
    case $3 in
    *[\'\"\\\$\`]* | *'
'*) die "the value of $2 contains a quote, backslash, dollar sign or line break: write such characters as %27, %22, %5C, %24 …" ;;
    esac
    printf "%s='%s'\n" "$2" "$3" >>"$1"
}

# proxy_setting NAME: from the environment in either spelling, otherwise the current setting.
proxy_setting() {
    small=$(printf %s "$1" | tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz')
    eval "chosen=\${$small:-\${$1:-}}"
    [ -n "$chosen" ] || chosen=$(current_setting "$1")
    printf %s "$chosen"
}

# Downloads use the same proxies as the agent. curl reads HTTP_PROXY only in lower case, wget all of them.
export_proxies() {
    for proxy in HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY; do
        chosen_proxy=$(proxy_setting "$proxy")
        small=$(printf %s "$proxy" | tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz')
        [ -z "$chosen_proxy" ] || export "$proxy=$chosen_proxy" "$small=$chosen_proxy"
    done
}

# Writes everything that belongs in the settings folder into the staging folder.
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
    [ -n "$insecure" ] || insecure=$(current_setting MUSTER_INSECURE)
    file=$staging/etc/agent.env
    : >"$file"
    add_setting "$file" MUSTER_SERVER_URL "$server"
    add_setting "$file" MUSTER_API_KEY_FILE "$settings/agent_key"
    add_setting "$file" MUSTER_STATE_DIR "$state"
    add_setting "$file" MUSTER_DIR "$program"
    add_setting "$file" MUSTER_LOG_DIR "$logs"
    add_setting "$file" MUSTER_CA_FILE "$ca_setting"
    add_setting "$file" MUSTER_INSECURE "$insecure"
    add_setting "$file" MUSTER_AGENT_NAME "${agent_name:-$(current_setting MUSTER_AGENT_NAME)}"
    add_setting "$file" MUSTER_AGENT_TAGS "${agent_tags:-$(current_setting MUSTER_AGENT_TAGS)}"
    for proxy in HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY; do
        add_setting "$file" "$proxy" "$(proxy_setting "$proxy")"
    done
    # Settings that a person added stay.
    grep -s '^MUSTER_[A-Z_]*=' "$settings/agent.env" |
        grep -v -E '^MUSTER_(SERVER_URL|API_KEY_FILE|STATE_DIR|DIR|LOG_DIR|CA_FILE|INSECURE|AGENT_NAME|AGENT_TAGS)=' >>"$file" || true
}

# with_settings FOLDER COMMAND…: runs a command with the agent's settings from FOLDER.
with_settings() {
    folder=$1
    shift
    [ -r "$folder/agent.env" ] || die "the settings in $folder are missing: install again with --key"
    (
        # Variables of the person who runs this are not the agent's.
        for variable in $(env | sed -n 's/^\(MUSTER_[A-Z_]*\)=.*/\1/p'); do unset "$variable"; done
        set -a
        # shellcheck disable=SC1091 # this script wrote it
        . "$folder/agent.env"
        set +a
        export MUSTER_API_KEY_FILE="$folder/agent_key"
        [ ! -f "$folder/ca.pem" ] || export MUSTER_CA_FILE="$folder/ca.pem"
        exec "$@"
    )
}

# Asks the server about the key before anything on the host changes.
check_connection() {
    finding=$(with_settings "$staging/etc" "$staging/bin/muster-agent" doctor --brief 2>&1) || {
        finding=$(printf '%s\n' "$finding" | tail -n 1)
        die "${finding:-the agent can not work with these settings}"
    }
}

# Writes the host's policy. An existing policy changes only if an option asks for it.
write_policy() {
    if [ -f "$state/policy.json" ] && [ -z "$allow$forbid$publisher$run_as" ]; then
        return 0
    fi
    policy=$(cat "$state/policy.json" 2>/dev/null || true)
    [ -n "$allow" ] || allow=$(policy_value allow)
    [ -n "$forbid" ] || forbid=$(policy_list forbid)
    [ -n "$publisher" ] || publisher=$(policy_list publishers)
    [ -n "$run_as" ] || run_as=$(policy_value run_as)
    if [ "$scope" = system ]; then
        # An existing policy without a user runs scripts as root.
        if [ -z "$run_as" ] && [ -f "$state/policy.json" ]; then run_as=root; fi
        # Each installation has its own user, which is removed with it.
        [ -n "$run_as" ] || run_as=muster${name#muster-agent}
        [ "$run_as" = root ] || create_user
    fi
    as=''
    [ -z "$run_as" ] || [ "$run_as" = root ] || as=$run_as
    policy_text "$as" >"$state/policy.json.new"
    chmod 644 "$state/policy.json.new"
    mv "$state/policy.json.new" "$state/policy.json"
}

# The fields of $policy, one a line: the name, a space and the JSON value. Awk, because a host may have no jq.
policy_fields() {
    printf '%s' "$policy" | tr '\n\r\t' '   ' | LC_ALL=C awk '
        function flush() {
            if (key != "") print substr(key, 2, length(key) - 2), token
            key = token = ""
        }
        {
            for (at = 1; at <= length($0); at++) {
                c = substr($0, at, 1)
                if (in_text) {
                    token = token c
                    if (is_escaped) is_escaped = 0
                    else if (c == "\\") is_escaped = 1
                    else if (c == "\"") in_text = 0
                    continue
                }
                if (c == " ") continue
                if (c == "\"") in_text = 1
                if (c == "}" || c == "]") depth--
                if (depth == 0 && c == "}") { flush(); continue }
                if (depth == 1 && c == ",") { flush(); continue }
                if (depth == 1 && c == ":") { key = token; token = ""; continue }
                if (c == "{" || c == "[") { depth++; if (depth == 1) continue }
                token = token c
            }
        }'
}

# A text field of $policy.
policy_value() { policy_fields | sed -n "s/^$1 \"\([a-zA-Z0-9_.-]*\)\"\$/\1/p"; }

# A list of texts in $policy, with commas.
policy_list() { policy_fields | sed -n "s/^$1 \[\(.*\)\]\$/\1/p" | tr -d '"'; }

# The fields of $policy that no option sets, as JSON after a comma.
policy_rest() {
    policy_fields | awk '$1 !~ /^(allow|run_as|forbid|publishers)$/ {
        name = $1
        sub(/^[^ ]* /, "")
        printf ", \"%s\": %s", name, $0
    }'
}

# Prints the policy of $allow, $forbid, $publisher and the user $1, with all other fields of $policy.
policy_text() {
    printf '{"allow": "%s"' "${allow:-manifest}"
    [ -z "$1" ] || printf ', "run_as": "%s"' "$1"
    case $forbid in
    '' | none) ;;
    *) printf ', "forbid": ["%s"]' "$(printf %s "$forbid" | sed 's/,/", "/g')" ;;
    esac
    case $publisher in
    '' | none) ;;
    *) printf ', "publishers": ["%s"]' "$(printf %s "$publisher" | sed 's/,/", "/g')" ;;
    esac
    policy_rest
    printf '}\n'
}

# Creates the user that scripts run as, without a password and without a login shell.
create_user() {
    if id "$run_as" >/dev/null 2>&1; then
        return 0
    fi
    [ "$run_as" = "muster${name#muster-agent}" ] || die "there is no user $run_as on this host: create it first, or omit --run-as"
    shell=/usr/sbin/nologin
    [ -x "$shell" ] || shell=/sbin/nologin
    [ -x "$shell" ] || shell=/bin/false
    if has useradd; then
        useradd --system --user-group --no-create-home --home-dir "$state/home" --shell "$shell" "$run_as"
    else
        adduser -S -D -H -h "$state/home" -s "$shell" "$run_as"
    fi || die "failed to create the user $run_as: create it by hand, or name another with --run-as"
    made_user=$run_as
    [ -z "$is_new" ] || printf 'made_user=%s\n' "$made_user" >>"$program/.installing"
    mkdir -p "$state/home"
    chown "$run_as" "$state/home"
}

# ==== SERVICE MANAGERS ==========================================================================
#
# Each has five functions: MANAGER_install (sets boot, the description of what starts the agent),
# MANAGER_start, MANAGER_stop, MANAGER_remove. Stopping and removing succeed if nothing is there.

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

starts_on_boot() {
    case $service in
    systemd) systemd_control is-enabled --quiet "$name.service" 2>/dev/null ;;
    openrc) rc-update show default 2>/dev/null | grep -q "$name" ;;
    runit) watched=$(runit_folder) && [ -e "$watched/$name" ] ;;
    cron) crontab -l 2>/dev/null | grep -q " # $name\$" ;;
    *) return 1 ;;
    esac
}

# For managers that read no file of settings.
write_run_script() {
    cat >"$program/run" <<TEXT
#!/bin/sh
# Starts without the caller's variables and file mode mask.
[ "\${1:-}" = clean ] || exec env -i HOME="\${HOME:-/}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $program/run clean
umask 022
set -a
. $settings/agent.env
set +a
exec $bin/muster-supervisor run
TEXT
    chmod 755 "$program/run"
}

# ---- systemd ----

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
# Exit code 99: only a person can help.
RestartPreventExitStatus=99
# Executions outlive the service: each has its own shim, which keeps running.
KillMode=process
OOMPolicy=continue
TimeoutStopSec=30
WatchdogSec=300
TEXT
    if [ "$scope" = user ]; then
        printf '\n[Install]\nWantedBy=default.target\n'
        return 0
    fi
    # Scripts run inside this unit and may install packages, mount file systems and use sudo. Options
    # that create a mount namespace, hide devices or forbid new privileges would break them.
    cat <<'TEXT'
LockPersonality=yes
RestrictRealtime=yes
KeyringMode=private
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_TIME CAP_WAKE_ALARM CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYS_PACCT CAP_SYS_TTY_CONFIG CAP_BLOCK_SUSPEND CAP_LEASE CAP_SYSLOG

[Install]
WantedBy=multi-user.target
TEXT
}

systemd_install() {
    unit=$(systemd_unit)
    # The caller uses ||, which disables `set -e` in here.
    (umask 022 && mkdir -p "$(dirname "$unit")" && systemd_text >"$unit") &&
        systemd_control daemon-reload &&
        systemd_control enable --quiet "$name.service" || return 1
    boot="yes, as systemd unit $name"
    if [ "$scope" = user ]; then
        if [ -e "/var/lib/systemd/linger/$(id -un)" ]; then
            boot="$boot of this user"
        elif loginctl enable-linger "$(id -un)" 2>/dev/null; then
            boot="$boot of this user"
            made_linger=1
        else
            boot="no: systemd unit $name starts when this user logs in; to start it on boot, run as root: loginctl enable-linger $(id -un)"
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

# ---- OpenRC ----

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
    boot="yes, as OpenRC service $name"
}
openrc_start() { rc-service --quiet "$name" restart; }
openrc_stop() { [ ! -e "/etc/init.d/$name" ] || rc-service --quiet --ifstarted "$name" stop; }
openrc_remove() {
    rc-update delete "$name" default >/dev/null 2>&1 || true
    rm -f "/etc/init.d/$name"
}

# ---- runit ----

# The folder that runit watches, if it runs.
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
# 99: only a person can help. 0 without a request from this host: the server ended the agent for good.
case \$1 in
99) exec sv down $name ;;
0) grep -q '"stopped by' $state/supervisor.json || exec sv down $name ;;
esac
TEXT
    chmod 755 "/etc/sv/$name" "/etc/sv/$name/run" "/etc/sv/$name/finish"
    ln -sfn "/etc/sv/$name" "$(runit_folder)/$name" || return 1
    boot="yes, as runit service $name"
}
runit_start() {
    # runit looks for new services every 5 s.
    tries=0
    until [ -p "/etc/sv/$name/supervise/ok" ] || [ $tries -ge 15 ]; do
        tries=$((tries + 1))
        sleep 1
    done
    # Not `sv restart`, which mistakes a start in the same second for the requested one.
    sv -w 30 stop "$name" >/dev/null && sv -w 30 start "$name" >/dev/null
}
runit_stop() { [ ! -e "/etc/sv/$name" ] || sv -w 30 stop "$name" >/dev/null; }
runit_remove() {
    sv -w 30 stop "$name" >/dev/null 2>&1 || true
    watched=$(runit_folder) && rm -f "$watched/$name"
    # runsv writes into the folder until it has ended.
    sv -w 30 shutdown "/etc/sv/$name" >/dev/null 2>&1 || true
    rm -rf "/etc/sv/$name"
}

# ---- cron ----

# Prints the crontab without this installation's line. Fails if the crontab can't be read: writing it then
# would lose its content.
cron_lines() {
    table=$(LC_ALL=C crontab -l 2>&1) || {
        case $table in *'no crontab'* | *'No such file'*) return 0 ;; esac
        warn "the crontab can't be read: $table"
        return 1
    }
    printf '%s\n' "$table" | grep -v " # $name\$" || true
}
cron_install() {
    lines=$(cron_lines) || return 1
    { [ -z "$lines" ] || printf '%s\n' "$lines"; printf '@reboot %s/run >/dev/null 2>&1 # %s\n' "$program" "$name"; } | crontab - || return 1
    boot="yes, by @reboot in the crontab of $(id -un)"
}
cron_start() { none_start; }
cron_stop() { none_stop; }
cron_remove() {
    crontab -l 2>/dev/null | grep -q " # $name\$" || return 0
    lines=$(cron_lines) || return 1
    if [ -n "$lines" ]; then printf '%s\n' "$lines" | crontab -; else crontab -r; fi
}

# ---- no manager ----

none_install() { boot="no: this host has neither systemd, OpenRC, runit nor cron; start $program/run on boot by other means"; }
none_start() {
    none_stop
    # The subshell becomes the supervisor by `exec`. A shell that waited for it would keep the key on its
    # command line and the caller's output open.
    (
        exec </dev/null >/dev/null 2>&1
        trap - PIPE
        cd /
        if has setsid; then exec setsid "$program/run"; else exec nohup "$program/run"; fi
    ) &
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

# Prints the process id of this installation's supervisor if it runs. The id in the file counts only if
# that process runs the installed program.
supervisor_id() {
    process=$(sed -n 's/^ *"pid": *\([0-9]*\),*$/\1/p' "$state/supervisor.json" 2>/dev/null) || true
    case $process in '' | *[!0-9]* | 0 | 1) return 0 ;; esac
    case $(readlink "/proc/$process/exe" 2>/dev/null) in
    "$program"/*/muster-supervisor | "$program"/*/'muster-supervisor (deleted)') printf %s "$process" ;;
    esac
}

# ==== INSTALLATION ==============================================================================

install_agent() {
    resolve_platform
    resolve_server
    resolve_key
    export_proxies
    check_existing_installation
    is_new='' was_connected='' interrupted='' had_state='' made_user='' made_linger='' changed='' installed='' staging='' service='' old_service=''
    [ ! -d "$state" ] || had_state=1
    is_installed || is_new=1
    trap 'undo' EXIT
    trap 'interrupted=1; exit 130' INT
    trap 'interrupted=1; exit 129' HUP
    trap 'interrupted=1; exit 143' TERM
    open_staging
    resolve_certificates
    stage_settings
    fetch_programs
    resolve_release
    print "Muster agent $new_version for $platform from ${from:-$web}"
    check_versions
    check_connection
    step "the server accepts the key"
    put_in_place
    step "installed in $program; settings in $settings, state in $state"
    step "starts on boot: $boot"
    installed=1
    rm -rf "$staging" "$program/versions/$new_version.old"
    trap - EXIT INT TERM HUP
    wait_until_connected
}

# Refuses to mix with other files or another installation.
check_existing_installation() {
    check_single
    if is_installed; then
        require_installation
        [ "$(recorded scope)" = "$scope" ] || die "$program contains a $(recorded scope) installation: omit --user, or choose another folder with --dir"
        old_server=$(current_setting MUSTER_SERVER_URL)
        old_key=$(cat "$settings/agent_key" 2>/dev/null || true)
        if [ -z "$yes" ] && { [ "$old_server" != "$server" ] || [ "$old_key" != "$key" ]; }; then
            what="the key"
            [ "$old_server" = "$server" ] || what="the server ($old_server)"
            ask "An agent is already installed here. Change $what?" ||
                die "the agent in $program is installed with another ${what#the }: use --yes to change it, or --uninstall it first"
        fi
        check_pinned_key "$(cat "$program/release_key" 2>/dev/null || true)"
    elif [ -e "$program/.installing" ]; then
        clean_interrupted
        had_state=''
        [ ! -d "$state" ] || had_state=1
    elif [ -d "$program" ] && [ -n "$(ls -A "$program")" ]; then
        die "$program contains other files, perhaps of an older installation: move them away, or choose another folder with --dir"
    fi
}

check_single() {
    for other in "$program"/.staging.*; do
        ! { [ -d "$other" ] && kill -0 "${other##*.}" 2>/dev/null; } ||
            die "another deploy.sh, process ${other##*.}, is working in $program: wait until it ends"
    done
}

# check_pinned_key PINNED: asks before the key changes, because its owner decides what runs on this host.
check_pinned_key() {
    pinned=$1
    [ -n "$release_key" ] && [ -n "$pinned" ] && [ "$release_key" != "$pinned" ] || return 0
    [ -n "$yes" ] || ask "This host accepts releases signed by the key $pinned. Change that to $release_key?" ||
        die "this host accepts releases signed by the key $pinned: use --yes to change that to $release_key"
    step "the release key changes from $pinned to $release_key"
}

# Removes the files of an installation that was killed before it was complete.
clean_interrupted() {
    noted() { sed -n "s/^$1=//p" "$program/.installing"; }
    service=$(noted service) made_user=$(noted made_user) keep_state=$(noted had_state)
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

# ask QUESTION: true if a person answers yes; false without a terminal.
ask() {
    { [ -t 1 ] && : </dev/tty; } 2>/dev/null || return 1
    printf '%s [y/N] ' "$1" >/dev/tty
    IFS= read -r answer </dev/tty || return 1
    case $answer in y | Y | yes) return 0 ;; *) return 1 ;; esac
}

# Creates the folders and checks the free space before the first download.
open_staging() {
    umask 022
    mkdir -p "$program" 2>/dev/null || die "failed to create the folder $program: check its parent's permissions, or choose another folder with --dir"
    umask 077
    [ -z "$is_new" ] || : >"$program/.installing"
    rm -rf "$program"/.staging.*
    staging=$program/.staging.$$
    mkdir "$staging" 2>/dev/null || die "$program is not writable: check its permissions and the space on its disk"
    for folder in "$program" "$state"; do
        near=$folder
        while [ ! -d "$near" ]; do near=$(dirname "$near"); done
        free=$(df -Pk "$near" 2>/dev/null | awk 'NR == 2 { print $4 }')
        [ "${free:-999999}" -ge 98304 ] ||
            die "only $((free / 1024)) MiB are free for $folder: free 96 MiB, or choose another folder with --dir"
    done
}

check_versions() {
    [ -z "$is_new" ] || return 0
    old_version=$(readlink "$program/versions/current" || true)
    if [ "$old_version" = "$new_version" ]; then
        step "version $new_version is already installed: updating settings and service"
    elif is_older "$new_version" "$old_version" && [ -z "$version" ]; then
        die "$old_version is installed here and ${from:-$web} offers the older $new_version: use --version $new_version to go back"
    else
        step "replacing version $old_version"
    fi
}

# is_older A B: true if version A precedes version B.
is_older() {
    printf '%s\n%s\n' "$1" "$2" | awk -F '[.+-]' '
        NR == 1 { for (i = 1; i <= 3; i++) a[i] = $i + 0 }
        NR == 2 { for (i = 1; i <= 3; i++) if (a[i] != $i + 0) { exit !(a[i] < $i + 0) } exit 1 }'
}

# From here on the host changes; `undo` restores it if a step fails.
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
    # Set once everything that a rollback needs is saved.
    changed=1
    (umask 022 && mkdir -p "$program/versions" "$(dirname "$settings")" "$(dirname "$logs")" "$(dirname "$state")")
    mkdir -p "$settings" "$logs"
    [ -d "$state" ] || mkdir -m 711 "$state"
    place_version
    for file in agent_key agent.env ca.pem; do
        if [ -f "$staging/etc/$file" ]; then
            # Copied beside its destination first: a move from another disk is a copy that can stop half way.
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
    "${service}_install" || die "failed to set up the service with $service: see above"
    point_to "$new_version"
    write_line release_key "$new_key"
    write_line release_floor "$new_floor"
    write_record
    "${service}_start" || die "the service does not start: see $logs/muster-agent.log"
    # An upgrade must not disconnect a host.
    [ -z "$was_connected" ] || await_connection || die "version $new_version does not connect within 30 s: see $logs/muster-agent.log"
}

# The new version's folder appears by a rename. A program that is running stays on disk.
place_version() {
    target=$program/versions/$new_version
    # An earlier attempt that was killed can leave the folder under its other name.
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
    # A rename, so that a current version exists at any time.
    mv -T "$program/versions/.current" "$program/versions/current" 2>/dev/null || {
        ln -sfn "$1" "$program/versions/current"
        rm -f "$program/versions/.current"
    }
}

# write_line FILE TEXT: replaces a file of the program folder by a rename, unless the text is empty.
write_line() {
    [ -n "$2" ] || return 0
    printf '%s\n' "$2" >"$program/$1.new"
    chmod 644 "$program/$1.new"
    mv "$program/$1.new" "$program/$1"
}

# Keeps a copy of this script in the installation. A script that was piped is downloaded again.
keep_script() {
    if is_file; then
        cp "$0" "$staging/deploy.sh"
    else
        fetch /install/deploy.sh "$staging/deploy.sh"
    fi
    chmod 755 "$staging/deploy.sh"
    mv "$staging/deploy.sh" "$program/deploy.sh"
}

write_record() {
    # `--uninstall --keep-state` notes the user that an earlier installation created.
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

is_connected() { "$bin/muster-agent" status --state-dir "$state" >/dev/null 2>&1; }

# The server has just accepted the key, so half a minute is ample.
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
        print_connection
        print_diagnosis
        die "the agent is installed, but has not connected within 30 s: see above, and $logs/muster-agent.log"
    fi
    step "connected"
    print_tags
    print "
Scripts   $state/script_manifest.json lists the scripts that may run; their files are in $state/scripts
Manage    $program/deploy.sh --status, --logs, --update, --stop, --uninstall"
}

print_connection() { print "$("$bin/muster-agent" status --state-dir "$state" | grep '^connected' || true)"; }

# Tags that the server did not take are no reason to fail: a person can add them.
print_tags() {
    if [ -n "$had_state" ] && [ -n "$agent_name$agent_tags" ]; then
        print "An agent keeps its name and tags: change them with muster agents rename and muster agents tag"
    elif "$bin/muster-agent" status --state-dir "$state" 2>/dev/null | grep -q '^tags'; then
        print "The server ignored --tag, because the agent key does not trust its holders: use muster agents tag"
    fi
}

print_diagnosis() { print "$(with_settings "$settings" "$bin/muster-agent" doctor 2>&1 || true)"; }

# ==== ROLLBACK ==================================================================================

# Runs when the script ends before the installation is complete: a new installation is removed, an
# existing one is restored.
undo() {
    code=$?
    trap - EXIT INT TERM HUP
    [ -z "$interrupted" ] || warn "interrupted; restoring the host"
    [ -z "$installed" ] || exit "$code"
    set +e
    if [ -n "$is_new" ]; then
        # State that existed before this installation stays.
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
        restore_installation
    fi
    rm -rf "$staging"
    exit "$code"
}

restore_installation() {
    restored=1
    for file in agent_key agent.env ca.pem; do
        restore_file "$staging/before/etc/$file" "$settings/$file" || restored=''
    done
    [ ! -f "$staging/before/policy.json" ] || restore_file "$staging/before/policy.json" "$state/policy.json" || restored=''
    # A floor that the pinned key has signed stays.
    kept=''
    [ -z "$new_floor" ] || [ "${release_key:-$pinned}" != "$pinned" ] || [ -z "$pinned" ] || kept=1
    for file in installation release_key release_floor; do
        [ -z "$kept" ] || [ "$file" != release_floor ] || continue
        restore_file "$staging/before/$file" "$program/$file" || restored=''
    done
    old=$program/versions/$old_version
    [ ! -d "$old.old" ] || { rm -rf "$old" && mv "$old.old" "$old"; } || restored=''
    point_to "$old_version" || restored=''
    new_service=$service
    service=$(recorded service)
    if [ -n "$new_service" ] && [ "$new_service" != "$service" ]; then
        { "${new_service}_stop"; "${new_service}_remove"; } >/dev/null 2>&1
    fi
    "${service}_install" >/dev/null 2>&1 || restored=''
    "${service}_start" >/dev/null 2>&1 || restored=''
    if [ -n "$restored" ]; then
        warn "the installation was restored as it was before, version $old_version"
    else
        mv "$staging/before" "$program/kept.$$"
        warn "the installation could not be restored completely; the files from before are in $program/kept.$$"
    fi
}

# restore_file SAVED FILE: by a rename. A file that did not exist before is removed.
restore_file() {
    [ -f "$1" ] || { rm -f "$2"; return; }
    ! cmp -s "$1" "$2" || return 0
    cp -p "$1" "$2.old" && mv "$2.old" "$2"
}

# Removes every file that an installation created. Other files in shared folders stay.
remove_files() {
    rm -f "$settings/agent_key" "$settings/agent.env" "$settings/ca.pem" "$settings"/.*.new
    rmdir "$settings" 2>/dev/null || true
    rm -rf "$logs"
    if [ -z "$keep_state" ]; then
        rm -rf "$state"
        if [ -n "$made_user" ]; then
            if has userdel; then userdel "$made_user"; else deluser "$made_user"; fi >/dev/null 2>&1 ||
                warn "the user $made_user was not removed because processes run as it: remove it later"
        fi
    fi
    rm -rf "$program/versions" "$program/run" "$program"/.staging.* "$program"/.release-*
    rm -f "$program/release_key" "$program/release_floor" "$program/trial.json"
    # Removed last: as long as these exist, --uninstall can be repeated.
    rm -f "$program/.installing" "$program/deploy.sh" "$program/installation" "$program"/*.new
    rmdir "$program" 2>/dev/null || true
}

# ==== MANAGEMENT ================================================================================

show_status() {
    require_installation
    code=0
    report=$("$bin/muster-agent" status --state-dir "$state") || code=$?
    print "$report"
    if starts_on_boot; then print "starts on boot: yes ($service)"; else print "starts on boot: no"; fi
    if [ $code != 0 ]; then
        print ""
        [ $code != 4 ] || print "To start the agent: $program/deploy.sh --start
"
        print_diagnosis
    fi
    exit $code
}

# The agent updates itself as it would for the server; this script installs nothing here.
update_agent() {
    require_installation
    # A version on trial may not answer, so the version before it is asked.
    stable=$(sed -n 's/.*"from":"\([0-9A-Za-z.+-]*\)".*/\1/p' "$program/trial.json" 2>/dev/null || true)
    stable=$program/versions/${stable:-current}/bin/muster-agent
    "$stable" help request-update >/dev/null 2>&1 ||
        die "the installed version $(readlink "$program/versions/current") can't update itself yet: run $program/deploy.sh without --update"
    code=0
    report=$(with_settings "$settings" "$stable" request-update ${version:+--version "$version"}) || code=$?
    [ -z "$report" ] || print "$report"
    exit $code
}

start_agent() {
    require_installation
    "${service}_start" || die "the service does not start: see $logs/muster-agent.log"
    await_connection || {
        print_connection
        die "started, but not connected within 30 s: run $program/deploy.sh --status to see why"
    }
    print "Started and connected"
}

follow_logs() {
    require_installation
    [ -f "$logs/muster-agent.log" ] || die "there is no log in $logs yet: check with --status whether the agent has been started"
    # A reader that ends, ends the log's reader.
    trap - PIPE
    exec tail -n 100 -F "$logs/muster-agent.log"
}

stop_agent() {
    require_installation
    "${service}_stop" || die "failed to stop the service $name"
    [ -z "$kill_executions" ] || kill_executions
    print "Stopped. To start it again: $program/deploy.sh --start"
}

kill_executions() {
    report=$("$bin/muster-agent" end-executions --state-dir "$state") || die "some executions did not end: see deploy.sh --status"
    [ -z "$report" ] || print "$report"
}

uninstall_agent() {
    if ! is_installed && [ -e "$program/.installing" ]; then
        clean_interrupted
        print "Removed the files of an interrupted installation"
        exit 0
    fi
    require_installation
    if [ -z "$kill_executions" ] && [ -z "$keep_state" ] && has_executions; then
        die "executions are running on this host: wait for them, or end them with --kill-executions"
    fi
    "${service}_stop" || die "failed to stop the service $name"
    [ -z "$kill_executions" ] || kill_executions
    if [ -z "$keep_state" ]; then
        # Without the server the files are removed all the same; the agent prints what remains to be done.
        print "$(with_settings "$settings" "$bin/muster-agent" deregister 2>&1 | tail -n 1 || true)"
    else
        # The next installation must know which user it may remove.
        [ -z "$(recorded made_user)" ] || recorded made_user >"$state/made_user"
    fi
    made_linger=''
    "${service}_remove"
    made_user=$(recorded made_user)
    remove_files
    if [ -n "$keep_state" ]; then
        print "Removed, except the state in $state"
    else
        print "Removed"
    fi
}

has_executions() { "$bin/muster-agent" status --state-dir "$state" --json 2>/dev/null | grep -q '"command_id"'; }

# ==== CONTAINERS ================================================================================
#
# An image must be what Dockerfile.agent builds: process 1 is the supervisor, which copies the programs
# of /usr/lib/muster into the volume at /opt/muster if that has none or older ones, and runs those. State
# is in /var/lib/muster, owned by the user that the image runs as; key and certificates are in
# /etc/muster; /bin/sh and stat exist. The volumes outlive every container, and an update replaces the
# programs in theirs.

# Sets mode: docker, or native for a service of the host.
choose_mode() {
    installed_mode=''
    if is_installed; then
        installed_mode=native
        [ "$(recorded service)" != docker ] || installed_mode=docker
    elif [ -e "$program/.installing" ]; then
        installed_mode=native
    fi
    [ -z "$installed_mode" ] || [ -z "$mode" ] || [ "$mode" = "$installed_mode" ] ||
        die "the agent in $program was installed with --$installed_mode: --uninstall it first, then install it with --$mode"
    mode=${mode:-$installed_mode}
    if [ -z "$mode" ] && [ "$action" = install ]; then
        if [ -n "$image$host_network$capabilities$privileged" ]; then
            mode=docker
        elif [ -z "$from$run_as" ] && engine_answers; then
            mode=docker
            step "a Docker engine is running, so the agent is installed in a container; use --native for a service of the host"
        fi
    fi
    mode=${mode:-native}
    [ "$mode" = docker ] || [ -z "$image" ] || usage_error "--image requires --docker"
    [ "$mode" = docker ] || [ -z "$host_network$capabilities$privileged" ] ||
        usage_error "--host-network, --cap-add and --privileged require --docker"
    [ "$mode" = native ] || [ -z "$from$run_as" ] || usage_error "--from and --run-as require --native: a container has the programs and the user of its image"
}

# An engine that hangs counts as none.
engine_answers() {
    has docker || return 1
    if has timeout; then timeout 20 docker info; else docker info; fi >/dev/null 2>&1
}

require_engine() {
    engine_answers || die "no Docker engine answers 'docker info': start it, check that this user may use it, or install with --native"
}

# container SETTINGS ARGUMENT…: `docker run` with this installation's volumes and settings. The key is in
# a volume, because `docker inspect` shows arguments and variables.
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
    # A server on the host's loopback is reachable only from the host's network.
    network=$host_network
    case $(sed -n "s|^MUSTER_SERVER_URL='[a-z]*://\(.*\)'\$|\1|p" "$settings_file") in
    localhost | localhost[:/]* | 127.* | '[::1]'*) network=1 ;;
    esac
    [ -z "$network" ] || set -- --network host "$@"
    docker run --hostname "$(uname -n)" \
        --volume "$name-programs:/opt/muster" --volume "$name-state:/var/lib/muster" --volume "$name-settings:/etc/muster" \
        --env MUSTER_DIR=/opt/muster --env MUSTER_STATE_DIR=/var/lib/muster --env MUSTER_API_KEY_FILE=/etc/muster/agent_key "$@"
}

# in_volumes SETTINGS SCRIPT ARGUMENT…: a shell that may write into the volumes, with this standard input.
in_volumes() {
    settings_of=$1
    shift
    container "$settings_of" --rm --interactive --user 0:0 --entrypoint /bin/sh "$image" -c "$@"
}

# put_file FILE MODE: standard input becomes a file in the volumes that only the image's user reads.
put_file() {
    # shellcheck disable=SC2016 # the shell in the container expands it
    in_volumes "$staging/etc/agent.env" 'umask 077 && cat >"$1.put" && chown "$(stat -c %u:%g /var/lib/muster)" "$1.put" && chmod "$2" "$1.put" && mv "$1.put" "$1"' sh "$1" "$2" ||
        die "failed to write $1 into the volumes of $name: see above"
}

# The agent's program: the volume's, or the image's before there is one.
# shellcheck disable=SC2016 # the shell in the container expands it
contained_agent='bin=/opt/muster/versions/current/bin; [ -x "$bin/muster-agent" ] || bin=/usr/lib/muster; exec "$bin/muster-agent" "$@"'

# in_container ARGUMENT…: runs the container's own agent program.
in_container() { docker exec "$name" /bin/sh -c "$contained_agent" sh "$@"; }

container_state() { docker container inspect --format '{{.State.Status}}' "$1" 2>/dev/null || printf missing; }

install_container() {
    require_engine
    resolve_server
    is_new=1 interrupted='' installed='' staging='' had_state='' made_linger='' renamed='' changed=''
    # The settings are written last: without them an installation was interrupted.
    ! [ -f "$settings/agent.env" ] || ! is_installed || is_new=''
    check_existing_container
    if [ -n "$is_new$key$key_file" ]; then resolve_key; fi
    export_proxies
    resolve_image
    resolve_privileges
    trap 'undo_container' EXIT
    trap 'interrupted=1; exit 130' INT
    trap 'interrupted=1; exit 129' HUP
    trap 'interrupted=1; exit 143' TERM
    (umask 022 && mkdir -p "$program") 2>/dev/null || die "failed to create the folder $program: check its parent's permissions, or choose another folder with --dir"
    staging=$program/.staging.$$
    mkdir "$staging" || die "$program is not writable: check its permissions and the space on its disk"
    resolve_certificates
    stage_settings
    # The key goes into its volume through standard input, and is stored nowhere else.
    rm -f "$staging/etc/agent_key"
    print "Muster agent in a container of $image"
    print_privileges
    [ -z "$host_network$capabilities$privileged" ] ||
        step "an upgrade keeps these options; to drop them, --uninstall --keep-state and install again"
    fill_volumes
    replace_container
    installed=1
    rm -rf "$staging"
    trap - EXIT INT TERM HUP
    step "connected; its volumes are $name-programs, $name-state and $name-settings"
    step "starts on boot: yes, if Docker itself does"
    print "
Scripts   see only the container: its files, programs and users, not this host's; use --native for those
Manage    $program/deploy.sh --status, --logs, --update, --stop, --uninstall"
}

# Refuses to mix with other files or another installation.
check_existing_container() {
    check_single
    rm -rf "$program"/.staging.*
    if [ -n "$is_new" ] && is_installed; then
        require_installation
        docker rm --force "$name" >/dev/null 2>&1 || true
        return 0
    fi
    if [ -n "$is_new" ]; then
        [ ! -d "$program" ] || [ -z "$(ls -A "$program")" ] ||
            die "$program contains other files, perhaps of an older installation: move them away, or choose another folder with --dir"
        [ "$(container_state "$name")" = missing ] ||
            die "a container $name exists that this script did not create: remove it, or choose another folder with --dir"
        ! docker volume inspect "$name-state" >/dev/null 2>&1 || had_state=1
        return 0
    fi
    require_installation
    # A kill between two containers leaves the earlier one under its other name.
    if [ "$(container_state "$name-before")" != missing ]; then
        if [ "$(container_state "$name")" = missing ]; then docker rename "$name-before" "$name"; else docker rm --force "$name-before" >/dev/null; fi
    fi
    old_server=$(current_setting MUSTER_SERVER_URL)
    if [ -z "$yes" ] && { [ "$old_server" != "$server" ] || [ -n "$key$key_file" ]; }; then
        what="the key"
        [ "$old_server" = "$server" ] || what="the server ($old_server)"
        ask "An agent is already installed here. Change $what?" ||
            die "an agent is already installed in the container $name: use --yes to change ${what%% (*}, or --uninstall it first"
    fi
    protect_executions "it is replaced"
}

# Executions run in the container and end with it: they are ended only on request.
protect_executions() {
    [ "$(container_state "$name")" = running ] || return 0
    if [ -n "$kill_executions" ]; then
        report=$(in_container end-executions) || die "some executions did not end: see deploy.sh --status"
        [ -z "$report" ] || print "$report"
    elif in_container status --json 2>/dev/null | grep -q '"command_id"'; then
        die "executions are running in the container $name and would end when $1: wait for them, or end them with deploy.sh --stop --kill-executions"
    fi
}

resolve_image() {
    if [ -z "$image$version" ]; then
        image=$(recorded image)
        # The default image follows the server's version if that image is present.
        case $image in
        muster-agent:*) ! docker image inspect "muster-agent:$script_version" >/dev/null 2>&1 || image=muster-agent:$script_version ;;
        esac
    fi
    image=${image:-muster-agent:${version:-${script_version:-latest}}}
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 ||
        die "the image $image is not present and can't be pulled: build it from Muster's Dockerfile.agent, name another with --image, or install a service of the host with --native"
}

# An upgrade without one of these options keeps those of the installation.
resolve_privileges() {
    [ -z "$host_network$capabilities$privileged" ] || return 0
    host_network=$(recorded host_network)
    capabilities=$(recorded capabilities)
    privileged=$(recorded privileged)
}

# A person who reads the installation's output learns what the options give away.
print_privileges() {
    [ -z "$host_network" ] || step "--host-network: scripts use the host's network, and reach services on its loopback"
    for capability in $capabilities; do
        step "--cap-add $capability: programs in the image that are setuid or have file capabilities can use $capability"
    done
    [ -z "$privileged" ] || step "--privileged: a script that becomes root in the container controls the host"
}

# Writes settings and key into the volumes after the server has accepted them.
fill_volumes() {
    changed=1
    [ -z "$is_new" ] || record_container
    for volume in programs state settings; do
        docker volume create "$name-$volume" >/dev/null || die "failed to create the volume $name-$volume: see above"
    done
    [ ! -f "$staging/etc/ca.pem" ] || put_file /etc/muster/ca.pem 644 <"$staging/etc/ca.pem"
    key_path=/etc/muster/agent_key
    if [ -n "$key" ]; then
        key_path=/etc/muster/agent_key.new
        printf '%s\n' "$key" | put_file "$key_path" 600
    fi
    finding=$(container "$staging/etc/agent.env" --rm --env "MUSTER_API_KEY_FILE=$key_path" --entrypoint /bin/sh "$image" -c "$contained_agent" sh doctor --brief 2>&1) || {
        finding=$(printf '%s\n' "$finding" | tail -n 1)
        die "${finding:-the agent can not work with these settings}"
    }
    step "the server accepts the key"
    check_pinned_key "$(in_volumes "$staging/etc/agent.env" 'cat /opt/muster/release_key 2>/dev/null || true' </dev/null)"
    [ -z "$release_key" ] || printf '%s\n' "$release_key" | put_file /opt/muster/release_key 644
    [ -z "$min_version" ] || printf '%s\n' "$min_version" | put_file /opt/muster/release_floor 644
    if [ -n "$allow$forbid$publisher" ]; then
        policy=$(in_volumes "$staging/etc/agent.env" 'cat /var/lib/muster/policy.json 2>/dev/null || true' </dev/null)
        [ -n "$allow" ] || allow=$(policy_value allow)
        [ -n "$forbid" ] || forbid=$(policy_list forbid)
        [ -n "$publisher" ] || publisher=$(policy_list publishers)
        policy_text "$(policy_value run_as)" | put_file /var/lib/muster/policy.json 644
    fi
    [ -z "$key" ] || in_volumes "$staging/etc/agent.env" "mv $key_path /etc/muster/agent_key" </dev/null
}

# The earlier container is kept until the new one is connected.
replace_container() {
    if [ -z "$is_new" ] && [ "$(container_state "$name")" != missing ]; then
        docker stop "$name" >/dev/null || die "failed to stop the container $name"
        renamed=1
        docker rename "$name" "$name-before"
    fi
    set -- --detach --name "$name" --restart unless-stopped --stop-timeout 30
    for capability in $capabilities; do set -- "$@" --cap-add "$capability"; done
    [ -z "$privileged" ] || set -- "$@" --privileged
    container "$staging/etc/agent.env" "$@" "$image" >/dev/null ||
        die "the container does not start: see above"
    await_container || {
        print "$(docker logs --tail 5 "$name" 2>&1 || true)" >&2
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
    {
        printf 'layout=1\nscope=%s\nservice=docker\nname=%s\nimage=%s\n' "$scope" "$name" "$image"
        [ -z "$host_network" ] || printf 'host_network=1\n'
        [ -z "$capabilities" ] || printf 'capabilities=%s\n' "$capabilities"
        [ -z "$privileged" ] || printf 'privileged=1\n'
    } >"$program/installation.new"
    chmod 644 "$program/installation.new"
    mv "$program/installation.new" "$program/installation"
}

undo_container() {
    code=$?
    trap - EXIT INT TERM HUP
    [ -z "$interrupted" ] || warn "interrupted; restoring the host"
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
            warn "the container $name was restored as it was before"
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

# Docker alone manages an existing container.
manage_container() {
    require_installation
    require_engine
    resolve_privileges
    case $action in
    status) show_container ;;
    logs)
        trap - PIPE
        exec docker logs --follow --tail 100 "$name"
        ;;
    update) update_container ;;
    stop) stop_container ;;
    start) start_container ;;
    uninstall) uninstall_container ;;
    esac
}

show_container() {
    now=$(container_state "$name")
    print "container   $name of $(recorded image): $now"
    print_privileges
    [ "$now" = running ] || exit 4
    code=0
    report=$(in_container status) || code=$?
    print "$report"
    if [ $code != 0 ]; then
        print "
$(in_container doctor 2>&1 || true)"
    fi
    exit $code
}

start_container() {
    docker start "$name" >/dev/null || die "the container $name does not start: see docker logs $name"
    await_container || die "started, but not connected within 30 s: run $program/deploy.sh --status to see why"
    print "Started and connected"
}

stop_container() {
    protect_executions "it stops"
    docker stop "$name" >/dev/null || die "failed to stop the container $name"
    print "Stopped, also across a reboot. To start it again: $program/deploy.sh --start"
}

# Uses the image's program, because the one in the volume may be on trial and not answer.
update_container() {
    [ "$(container_state "$name")" = running ] || die "the container $name is not running: start it with --start before the update"
    code=0
    report=$(docker exec "$name" /usr/lib/muster/muster-agent request-update ${version:+--version "$version"}) || code=$?
    [ -z "$report" ] || print "$report"
    exit $code
}

uninstall_container() {
    image=$(recorded image)
    protect_executions "it is removed"
    docker stop "$name" >/dev/null 2>&1 || true
    if [ -z "$keep_state" ] && [ -r "$settings/agent.env" ]; then
        # Without the server everything is removed all the same; the agent prints what remains to be done.
        print "$(container "$settings/agent.env" --rm --entrypoint /bin/sh "$image" -c "$contained_agent" sh deregister 2>&1 | tail -n 1 || true)"
    fi
    remove_container
    remove_container_files
    if [ -n "$keep_state" ]; then print "Removed, except the state in the volume $name-state"; else print "Removed"; fi
}

main "$@"
