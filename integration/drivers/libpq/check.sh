# What the programs on libpq's own tools share. The environment holds libpq's variables.
set -uo pipefail

table=$DRIVER_TABLE
clients=8
PSQLRC=/dev/null
export PSQLRC

sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }

# same FOUND EXPECTED
same() {
    [ "$1" = "$2" ] && return 0
    echo "expected ${2:0:300}, found ${1:0:300}"
    exit 1
}

# has TEXT PART
has() {
    case "$1" in *"$2"*) return 0 ;; esac
    echo "expected $2 in: ${1:0:300}"
    exit 1
}

# Runs those of our functions check_NAME that are asked for, each in a shell of its own.
run() {
    echo "version $1"
    local name output
    for name in ${DRIVER_CHECKS//,/ }; do
        if ! declare -F "check_$name" >/dev/null; then
            echo "absent $name: ${absent[$name]:-not in this driver}"
        elif output=$(check_"$name" 2>&1); then
            echo "ok $name"
        else
            echo "failed $name: $(tr '\n' ' ' <<<"$output" | tail -c 500)"
        fi
    done
}
