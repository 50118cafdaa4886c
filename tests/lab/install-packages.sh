#!/bin/sh
# Installs what domus is built and tested with: every package of the file
# "packages" that is missing. Says which; silent when nothing is.
set -eu
here=$(dirname "$(readlink -f "$0")")
list=$here/packages

fail() {
    echo "install-packages: $*" >&2
    exit 1
}

command -v dpkg-query > /dev/null 2>&1 ||
    fail "this is not Debian; install what corresponds to $list by hand"

wanted=$(sed 's/#.*//' "$list")
# shellcheck disable=SC2086  # words are what is wanted
present=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted \
    2> /dev/null | sed -n 's/^.i  *//p') || true
missing=
for name in $wanted; do
    case "
$present
" in
    *"
$name
"*) ;;
    *) missing="$missing $name" ;;
    esac
done
[ -n "$missing" ] || exit 0

echo "Packages that are missing:$missing"
command -v apt-get > /dev/null 2>&1 || fail "there is no apt-get"
[ "$(id -u)" -eq 0 ] ||
    fail "only root can install them: apt-get install$missing"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND

# Runs a command with its output in the log, and tells how long it takes.
quietly() {
    what=$1
    shift
    echo "  $what …"
    "$@" > "$log" 2>&1 < /dev/null &
    pid=$!
    seconds=0
    while kill -0 "$pid" 2> /dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        [ $((seconds % 5)) -ne 0 ] || echo "  $what … $seconds s"
    done
    if wait "$pid"; then
        echo "  $what: done, $seconds s"
        return 0
    fi
    return 1
}

# The lists are fetched when there are none, or when they do not serve.
# shellcheck disable=SC2086
install() {
    quietly "install" apt-get -o DPkg::Lock::Timeout=300 install -y \
        --no-install-recommends $missing
}

known() {
    # shellcheck disable=SC2086
    apt-get install --simulate -y --no-install-recommends $missing \
        > /dev/null 2>&1
}

known && install && exit 0
quietly "fetch the package lists" apt-get -o DPkg::Lock::Timeout=300 \
    update || { tail -n 20 "$log" >&2; fail "apt-get update failed"; }
for name in $missing; do
    apt-cache show "$name" > /dev/null 2>&1 ||
        fail "no package $name here; Debian 12 (bookworm) has it"
done
install || { tail -n 20 "$log" >&2; fail "apt-get install failed"; }
